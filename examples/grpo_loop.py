"""Train a policy with GRPO on a FLIP reward: TRL's trainer, and nothing but the public names of flip_reward.

Run `python examples/grpo_loop.py POLICY PROMPTS.jsonl OUTPUT` (needs `pip install "flip-reward[train]"`). The rows
have a `prompt`. The reward and its model are environment variables, such as FLIP_REWARD_MODEL=Qwen/Qwen3-4B and
FLIP_REWARD_BASE_URL=http://localhost:8000/v1; STEPS and TOKENS say how long it trains and how long a response may be.
`flip-reward train` does the same, resumes, and writes a report.
"""

# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
# (TRL, datasets and transformers say little of their types, and TRL not that a reward may be asynchronous.)

import os
import sys

import torch
from datasets import load_dataset
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from flip_reward import RewardConfig
from flip_reward.integrations.trl import TrlReward


def main(policy: str, prompts: str, output: str) -> None:
    """Train for STEPS steps, and print the mean reward of each."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    reward = TrlReward(RewardConfig.from_environment(os.environ), processing_class=tokenizer)
    reward.load()  # mistakes show here, not after the policy is loaded
    rows = load_dataset("json", data_files=prompts, split="train").select_columns(["prompt"])
    trainer = GRPOTrainer(
        model=policy,
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=rows.map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]}),
        args=GRPOConfig(
            output_dir=output,
            max_steps=int(os.environ.get("STEPS", "100")),
            per_device_train_batch_size=8,
            num_generations=4,  # responses to each prompt, which are compared with their mean
            max_completion_length=int(os.environ.get("TOKENS", "256")),
            learning_rate=1e-6,
            logging_steps=1,
            report_to=[],
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
        ),
    )
    trainer.train()
    for entry in trainer.state.log_history:
        if "reward" in entry:
            scored = entry.get("flip_reward/outcomes/scored", 0.0)  # the rest has no reward, and teaches nothing
            print(f"step {entry['step']}: reward {entry['reward']:.3f}, {scored:.0%} of the responses scored")
    trainer.save_model(output)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else sys.exit(__doc__)
