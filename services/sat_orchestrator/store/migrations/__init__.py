"""The steps that bring an older database to the present tables. They are run at each start."""
