"""Names of the methods that answer questions, and their words for readers; needs nothing but text."""

GREEDY, COVERAGE, PASS = "greedy", "coverage", "pass"
GREEDY_MAJORITY, TUNED_MAJORITY = "greedy_majority", "tuned_majority"
MAJORITY, WEIGHTED_VOTE = "majority", "weighted_vote"  # as the selections of these names
ADAPTIVE = "adaptive_"  # what the name of a selection begins with where drawing stops early
SEARCH_VOTE = "_vote"  # what the name of a tree search ends with where its trajectories vote
FIRST = (GREEDY, MAJORITY, WEIGHTED_VOTE, "best_of_n", COVERAGE)  # what a figure shows at first
