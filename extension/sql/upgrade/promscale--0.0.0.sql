\echo Use "CREATE EXTENSION promscale" to load this file. \quit
-- The empty version before the first one: what updates start from in the tests.
