#pragma once

#include "model/steps.h"

namespace moegen {

/// The parts of latent attention's steps that are its own (see AttentionSpec). They are called by those of steps.h. Generated tokens take the
/// absorbed form, those of a prompt the expanded one (expanded_attention.h), also when they are computed again.
/// @{

/// normed -> heads, qkv (latents and keys); of generated tokens also q, absorbed.
void project_latent(const StepContext& c, size_t layer, const Wave& wave);
/// heads -> q, turned; qkv -> latents and rotated keys in their pages.
void place_latent(const StepContext& c, const Pass& pass, size_t layer, const Wave& wave);

/// attended (latents) -> heads (values of the heads), of generated tokens.
void expand_values(const StepContext& c, size_t layer, const Wave& wave);
/// @}

/// kv_b as absorbed attention wants it: the rows of each head's keys [plain_dim, kv_rank] become columns [kv_rank, plain_dim], in place.
/// `kv_b`: [heads * (plain_dim + v_dim), kv_rank], f32 or 16 bits.
void turn_key_heads(void* kv_b, DType dtype, const AttentionSpec& spec);

}  // namespace moegen
