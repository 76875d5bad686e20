"""Training of promptlab's embedded model, from npm packages to packaged weights.

The whole line, each step a module with a command of its own and all of it in one:

    python -m training.run --device cuda      # one GPU; meant for 25 minutes, not yet run
    python -m training.run --device cpu       # two cores, hours, resumable

Extra requirements: `pip install 'promptlab[training]'` and the `npm` client (or the data set in its
`packed` form). To continue from saved checkpoints put them into `training/runs/` and start one step
by itself, with more steps; where only the packaged weights are left, `unpack` and `train_encoder`
make such checkpoints of them.

`sources` (pinned packages) -> `subjects` (one name for one thing) -> `rasterize` (pixels)
-> `train_tokenizer` (pixels -> tokens) -> `tokenize_images` (augmented tokens and captions)
-> `train_transformer` (text -> tokens), `train_detokenizer` (tokens -> pixels, to please `critics`
that `judge` trains) -> `export` (the model folder) -> `draw_tokens` and `train_detokenizer` again,
now with what the transformer draws -> `export` -> `evaluate`, with the judges of `judge` and
`choose_sampling` beside it.
"""
