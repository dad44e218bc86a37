"""Workers as their host sees them: started, called with deadlines, watched for signs of life,
ended.

`process` and `thread` are the two kinds, `handle` is what they share, `multiplexer` reads them all.
"""
