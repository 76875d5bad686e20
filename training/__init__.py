"""Training of promptlab's embedded model, from npm packages to packaged weights.

The whole line, each step a module with a command of its own and all of it in one:

    python -m training.run --device cuda      # one GPU, about 25 minutes
    python -m training.run --device cpu       # two cores, hours, resumable

`sources` (pinned packages) -> `subjects` (one name for one thing) -> `rasterize` (pixels)
-> `train_detokenizer` (pixels <-> tokens) -> `tokenize_images` (augmented tokens and captions)
-> `train_transformer` (text -> tokens) -> `export` (the model folder) -> `evaluate`.
Everything it makes lies under `training/data/` and `training/runs/`, which git ignores.
"""
