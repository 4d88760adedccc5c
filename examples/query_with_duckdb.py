"""Ask a manifest questions in SQL: python examples/query_with_duckdb.py MANIFEST  (pip install duckdb)"""

import sys

import duckdb

import k710

clips = k710.open_manifest(sys.argv[1]).clips  # an Arrow table, which DuckDB queries where it lies

print("Classes of K710 with the most train clips:")
duckdb.sql("""
    SELECT label, count(*) AS clips FROM clips WHERE split = 'train' GROUP BY label ORDER BY clips DESC, label LIMIT 5
""").show()

print("What was left out, and why:")
duckdb.sql("""
    SELECT drop_reason, count(*) AS clips FROM clips WHERE split IS NULL GROUP BY drop_reason ORDER BY drop_reason
""").show()

print("Clips that Kinetics-700 trains on and Kinetics-400 evaluates on:")
duckdb.sql("""
    SELECT clip_id, label, split FROM clips WHERE k700_split = 'train' AND k400_split IN ('val', 'test') LIMIT 5
""").show()
