"""Compare the inferred instructions of a finished run with ROUGE-L, without the model.

Run `python examples/rescore_run.py runs/responses-flip-1a2b3c4d` (needs `pip install "flip-reward[similarity]"`).
"""

import sys
from pathlib import Path

from flip_reward.rewards.similarities import load_similarity
from flip_reward.scoring.rescore import rescore_run

if __name__ == "__main__":
    folder, summary = rescore_run(Path(sys.argv[1]), load_similarity("rouge-l"))
    print(folder, summary.rewards and summary.rewards.mean)
