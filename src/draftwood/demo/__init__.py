"""The bundled demo: a synthetic text-to-SQL world and the small model trained on it.

Reading order: words, schema, questions, faults, stages, world, workload; then tokenizer,
packing, train; `benchmarks/demo_model` measures what the model can do. Importing the world loads
no machine-learning library.
"""
