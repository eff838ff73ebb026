#pragma once
// Whether products of bfloat16 may go through the tiles of AMX.

namespace fused_lstm::cpu {

// The processor has tiles, the system lends them to this process, and a first pair of products was right.
bool amx_usable();

}  // namespace fused_lstm::cpu
