"""A column of a Ray Data dataset, compressed and restored: `pip install 'llmzip[ray]' 'ray[data]'`."""

import os

import ray

import llmzip.ray

MODEL = os.environ.get("LLMZIP_MODEL")  # the default model if it is not set
TEXTS = ["The harbour froze in the night.", "Nobody sailed that week.", "On Sunday the wind turned."]

ray.init("local", include_dashboard=False)
workers = {"concurrency": 1, "fn_constructor_kwargs": {"model": MODEL}}
texts = ray.data.from_items([{"day": day, "text": text} for day, text in enumerate(TEXTS)])
packed = texts.map_batches(llmzip.ray.Compressor, fn_constructor_args=("text", "archive"), **workers).drop_columns(["text"]).materialize()
back = packed.map_batches(llmzip.ray.Decompressor, fn_constructor_args=("archive", "text"), **workers).sort("day").take_all()
assert [row["text"] for row in back] == TEXTS
print("restored:", [row["text"] for row in back])
ray.shutdown()
