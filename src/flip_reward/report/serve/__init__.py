"""The page of `flip-reward serve --ui`: a place to try the reward."""
