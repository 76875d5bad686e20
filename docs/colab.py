# %% [markdown]
# # promptlab in a notebook
#
# Draw a sweep of prompts, look at the contact sheet, pick, and draw more. No GPU is needed: a small
# model is inside the package. On Colab choose *Runtime → Change runtime type → T4 GPU* for larger
# models.

# %% tags=["install"]
# What pip installs: a release, the address of a Git repository, or a wheel that you uploaded.
SOURCE = "promptlab"
# !pip freeze | grep -iE "^(torch|torchvision|torchaudio|numpy)==" > /tmp/keep.txt
# !pip install -q -c /tmp/keep.txt "{SOURCE}"

# %% [markdown]
# ## Draw
#
# Every list is an axis. This is three subjects × three styles × two seeds, on the CPU.

# %%
import promptlab

run = promptlab.sweep(
    subject=["a fox", "a robot", "an octopus"],
    style=["noto", "openmoji", "fluent_flat"],
    seeds=2,
)
run

# %% [markdown]
# ## Look and pick
#
# `1`–`5` rate, `F` is a favourite, `X` rejects, `A` goes through all images, `?` lists the keys.
# **Save** downloads the verdicts as a file; on Colab, upload it and run
# `!promptlab pick --import FILE`.

# %%
promptlab.show_sheet(run)

# %% [markdown]
# ## The data
#
# One row an image: what was asked for, what was drawn, with which numerics.

# %%
table = run.table()
table[["subject", "style", "seed", "seconds", "image_id"]].head()

# %%
run.image(table.image_id[0])

# %% [markdown]
# ## More of what is good
#
# A favourite, given here without the page, and fresh seeds of its cell.

# %%
# !promptlab pick {table.image_id[0]} --favourite
more = promptlab.sweep(from_picks=run, seeds=4)
more.best(4)[["subject", "style", "seed"]]

# %% [markdown]
# ## A larger model
#
# min-dalle's mega wants a GPU and downloads 10 GB once. Any diffusers pipeline works too, with
# `pip install 'promptlab[diffusers]'` and `model="sdxl_turbo"`.

# %% tags=["gpu", "download"]
import torch

if torch.cuda.is_available():
    photos = promptlab.sweep(
        model="min_dalle_mega",
        subject=["cctv footage of yoda robbing a liquor store", "a fox"],
        style=["art/ukiyo_e", "art/monet"],
        seeds=4,
    )
    promptlab.show_sheet(photos)
else:
    print("No GPU here: choose one under Runtime → Change runtime type.")

# %% [markdown]
# ## MLflow
#
# Every sweep is an experiment. On Colab this cell opens MLflow's UI through Colab's proxy.

# %% tags=["colab"]
import subprocess

from google.colab import output

subprocess.Popen(["promptlab", "ui", "--port", "5000", "--no-browser"])
output.serve_kernel_port_as_window(5000)
