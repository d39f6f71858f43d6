"""The rolling ball and the continuous motion of its centre (arXiv 2505.19527).

`rolling_ball` is the optimizer. `nearest_point`, `contacts` and `placement` find where a ball
touches; `state`, `equation`, `flow` and `solver` are the motion of its centre, `contact_flow` that
of its contact, and `ironed` the landscape that the centre moves on.
"""
