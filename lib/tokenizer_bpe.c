/* SPDX-License-Identifier: MIT */
typedef int sl_placeholder_;
