"""Published models for irregularly sampled stays, written plainly: what `baselines` sets beside ours."""
