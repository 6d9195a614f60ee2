"""What `layers` notes for corrections after each operation, compiled by numba. Arguments of rows are as in `corrections`."""

from __future__ import annotations

from llmzip.engine.kernels.corrections import note_rows, note_scales, place_in, sum_signs, traced
from llmzip.engine.kernels.rows import glue


@glue
def low_values(c):
    """The column of `qkv` at which the low parts of values begin."""
    return c.queries_keys.shape[2] + c.values.shape[2]


@glue
def note_attention_reads(amx, c, layer, x, q, row, z, first, last, origin, t):
    """The stream that attention read, x float32, as int8 q with scales `row`; fills their sums with signs, z."""
    note_rows(place_in(c), x, c.attention_x[layer], first, last, origin, t)
    sum_signs(amx, place_in(c), q, c.signs, row, z, c.attention_z[layer], c.attention_row[layer], first, last, origin, t)


@glue
def note_heads(c, layer, qkv, o_q, o_row, first, last, origin, t):
    """Products of queries and keys, and what `o` reads, with its scales."""
    note_rows(place_in(c), o_q, c.o_q[layer], first, last, origin, t)
    note_rows(place_in(c), qkv, c.queries_keys[layer], first, last, origin, t)
    note_scales(place_in(c), o_row, c.o_row[layer], first, last, origin, t)


@glue
def note_ffn_reads(amx, c, layer, parallel, x, q, row, z, first, last, origin, t):
    """As `note_attention_reads`, of feed-forward. If it is parallel to attention, both read the same stream, and x is no longer that."""
    if parallel:
        for i in range(first, last):
            at = traced(place_in(c), origin + i, t)
            before, here = c.attention_x[layer][at], c.ffn_x[layer][at]
            for j in range(before.shape[0]):
                here[j] = before[j]
    else:
        note_rows(place_in(c), x, c.ffn_x[layer], first, last, origin, t)
    sum_signs(amx, place_in(c), q, c.signs, row, z, c.ffn_z[layer], c.ffn_row[layer], first, last, origin, t)


@glue
def note_gate_up(amx, c, layer, acc, q, row, z, first, last, origin, t):
    """The product of `gate_up`, and what `down` reads; fills sums with signs, z."""
    note_rows(place_in(c), acc, c.gate_up_acc[layer], first, last, origin, t)
    sum_signs(amx, place_in(c), q, c.ffn_signs, row, z, c.down_z[layer], c.down_row[layer], first, last, origin, t)


@glue
def note_given(c, to, acc, first, last, origin, t):
    """A product that is added to the stream, into the trace's array of a layer, which has size 0 if that is not needed."""
    if to.shape[1]:
        note_rows(place_in(c), acc, to, first, last, origin, t)
