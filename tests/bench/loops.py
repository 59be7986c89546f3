"""Three training loops over the same model, blocks and batch, for comparing their speed. Each does `steps` steps and returns the last loss."""
import numpy as np, torch
from hyperlex_nb.model import baseline_config, build
from hyperlex_nb.pretrain import TrainConfig, _Blocks, _Objective, _optimizers, _step


def fresh(cfg: TrainConfig, vocab_size: int):
    return build(baseline_config(vocab_size, cfg.width, cfg.layers, cfg.context), cfg.seed).train()


def nanogpt(cfg, vocab_size, steps):
    "The straightforward loop: windows from a memory map, bf16 autocast, fused AdamW, gradient clipping."
    model, row = fresh(cfg, vocab_size), _Blocks(cfg.packed, cfg.context, cfg.seed).row
    opt = torch.optim.AdamW(model.parameters(), lr=cfg.lr, betas=(.9, .95), weight_decay=cfg.weight_decay, fused=True)
    rng, loss = np.random.default_rng(cfg.seed), None
    for _ in range(steps):
        for _ in range(cfg.batch // cfg.micro):
            at = rng.integers(0, len(row) - cfg.context - 1, cfg.micro)
            x = torch.from_numpy(np.stack([row[i:i + cfg.context].astype(np.int64) for i in at]))
            y = torch.from_numpy(np.stack([row[i + 1:i + 1 + cfg.context].astype(np.int64) for i in at]))
            with torch.autocast('cpu', torch.bfloat16):
                logits = model(input_ids=x, use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1)) * (cfg.micro / cfg.batch)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
        opt.step(); opt.zero_grad(set_to_none=True)
    return loss.item()


def trainer(cfg, vocab_size, steps):
    "`transformers.Trainer` with accelerate, the same batch, bf16, AdamW and clipping; nothing saved or reported."
    import tempfile
    from transformers import Trainer, TrainingArguments
    blocks = _Blocks(cfg.packed, cfg.context, cfg.seed)

    class Rows(torch.utils.data.Dataset):
        def __len__(self): return steps * cfg.batch
        def __getitem__(self, i):
            x = torch.from_numpy(blocks(i)[:-1])
            return dict(input_ids=x, labels=x)

    with tempfile.TemporaryDirectory() as out:
        args = TrainingArguments(out, max_steps=steps, per_device_train_batch_size=cfg.micro, gradient_accumulation_steps=cfg.batch // cfg.micro, bf16=True,
                                 use_cpu=not torch.cuda.is_available(), optim='adamw_torch_fused', learning_rate=cfg.lr, weight_decay=cfg.weight_decay,
                                 max_grad_norm=cfg.clip, save_strategy='no', logging_strategy='no', report_to='none', disable_tqdm=True, seed=cfg.seed)
        return Trainer(model=fresh(cfg, vocab_size), args=args, train_dataset=Rows()).train().training_loss


def ours(cfg, vocab_size, steps):
    "The step of `hyperlex_nb.pretrain`."
    model = fresh(cfg, vocab_size)
    objective, opts, blocks = _Objective(model, cfg.dtype), _optimizers(model, cfg), _Blocks(cfg.packed, cfg.context, cfg.seed)
    return [_step(objective, opts, blocks, cfg, step, torch.device('cpu')) for step in range(steps)][-1]


LOOPS = {'nanoGPT-style loop': nanogpt, 'Trainer (accelerate)': trainer, 'hyperlex': ours}
