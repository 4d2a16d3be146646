/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What path.h shares with the driver. */
#pragma once

#define NAMES (256 * 1024)
/* Where a name stands there are its length, a u32, and its bytes. Nothing stands at 0, which means no name. */
struct names {
    u8 bytes[NAMES];
};
