"""The bundled demo: a synthetic text-to-SQL world and the small model trained on it.

Reading order: words, schema, questions, faults, stages, world, workload; then tokenizer,
packing, train, evaluate. Importing the world loads no machine-learning library.
"""
