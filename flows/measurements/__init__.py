"""What is measured along a trajectory, and how well a flow tracks an optimizer."""
