"""The clicks of each log of the sample, as its publishers give them: by policy and campaign."""

PUBLISHED_CLICKS = {
    ("random", "all"): 38,
    ("random", "men"): 46,
    ("random", "women"): 46,
    ("bts", "all"): 42,
    ("bts", "men"): 69,
    ("bts", "women"): 46,
}
