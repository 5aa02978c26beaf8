"""Train, evaluate and deploy ACT policies from datasets of `act_data`."""
