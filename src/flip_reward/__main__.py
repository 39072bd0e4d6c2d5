"""`python -m flip_reward` is the command `flip-reward`."""

from flip_reward.cli.app import main

if __name__ == "__main__":
    main()
