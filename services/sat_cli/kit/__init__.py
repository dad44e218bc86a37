"""The author's kit behind ``sat plugin``: start a driver, check it, run it without a broker."""
