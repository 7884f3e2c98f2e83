/*
 * narrow.h: conversion between f32 and the narrow storage types: f16, bf16, bytes. Included by simd.h.
 *
 * Widening is exact for every bit pattern (NaN payloads apart); narrowing rounds to nearest even, subnormals
 * included, and overflows to infinity. Source: IEEE 754 binary16; bfloat16 = the upper half of binary32.
 * Checked over all 65,536 patterns in kernels/test/test_copy.c.
 */
#ifndef GQA_NARROW_H
#define GQA_NARROW_H
#include "simd.h"

/* One f16 value; exact for every bit pattern but NaN payloads. */
GQA_INLINE float half_to_float(uint16_t h) {
#if defined(__F16C__)
  return _cvtsh_ss(h);
#elif defined(__aarch64__)
  __fp16 half;
  memcpy(&half, &h, 2);
  return half;
#else
  uint32_t bits = (uint32_t)(h & 0x7fff) << 13;
  float f;
  memcpy(&f, &bits, 4);
  f *= 0x1p112f; /* moves the exponent bias from 15 to 127, subnormals included */
  memcpy(&bits, &f, 4);
  if ((h & 0x7c00) == 0x7c00) bits |= 0x7f800000u;
  bits |= (uint32_t)(h & 0x8000) << 16;
  memcpy(&f, &bits, 4);
  return f;
#endif
}

/* VL unsigned 16-bit values as integers. */
GQA_INLINE vi vi_load_u16(const uint16_t *p) {
#if VL == 4 && defined(__SSE2__)
  return (vi)_mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)p), _mm_setzero_si128());
#elif defined(__wasm__)
  return (vi)wasm_u32x4_load16x4(p);
#elif defined(__aarch64__)
  return (vi)vmovl_u16(vld1_u16(p));
#else
  vh h;
  memcpy(&h, p, sizeof h);
  return __builtin_convertvector(h, vi);
#endif
}

GQA_INLINE vf vf_load_f16(const uint16_t *p) {
#if VL == 16
  return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif VL == 8
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(__aarch64__)
  return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
  vi w = vi_load_u16(p);
  vf f = (vf)((w & 0x7fff) << 13) * 0x1p112f;
  vi special = ((w & 0x7c00) == 0x7c00) & vi_set(0x7f800000);
  return (vf)((vi)f | special | ((w & 0x8000) << 16));
#endif
}

GQA_INLINE vf vf_load_bf16(const uint16_t *p) {
#if VL == 16
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
#elif VL == 8
  return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16);
#endif
  return (vf)((vu)vi_load_u16(p) << 16);
}

GQA_INLINE uint16_t float_to_bfloat(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* Rounds to nearest even, subnormals included. */
GQA_INLINE uint16_t float_to_half(float x) {
#if defined(__F16C__)
  return (uint16_t)_cvtss_sh(x, 0);
#elif defined(__aarch64__)
  __fp16 half = (__fp16)x;
  uint16_t h;
  memcpy(&h, &half, 2);
  return h;
#else
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint16_t sign = (uint16_t)((bits >> 16) & 0x8000);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return sign | 0x7e00;
  if (bits >= 0x47800000u) return sign | 0x7c00;
  if (bits < 0x38800000u) { /* subnormal: adding 0.5 lets the hardware round to units of 2^-24 */
    float f, half = 0.5f;
    memcpy(&f, &bits, 4);
    f += half;
    memcpy(&bits, &f, 4);
    return sign | (uint16_t)(bits - 0x3f000000u);
  }
  return sign | (uint16_t)((bits + 0xfff + ((bits >> 13) & 1) - 0x38000000u) >> 13);
#endif
}

GQA_INLINE void vf_store_f16(uint16_t *p, vf v) {
#if VL == 16
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)v, 0));
#elif VL == 8
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, 0));
#elif defined(__aarch64__)
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
#else
  for (int i = 0; i < VL; i++) p[i] = float_to_half(v[i]);
#endif
}

GQA_INLINE void vf_store_bf16(uint16_t *p, vf v) {
  vu bits = (vu)v;
  vu nan = (vu)(v != v);
  vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  vh h = __builtin_convertvector((nan & ((bits >> 16) | 0x40)) | (~nan & rounded), vh);
  memcpy(p, &h, sizeof h);
}

/* VL bytes as integers and as f32; gcc 12 does not find these instructions from a conversion of vectors. */
GQA_INLINE vi vi_load_u8(const uint8_t *p) {
#if VL == 16
  return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif VL == 8
  return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#elif defined(__wasm__)
  return (vi)wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p)));
#elif defined(__SSE2__)
  int32_t four;
  memcpy(&four, p, 4);
  __m128i zero = _mm_setzero_si128();
  return (vi)_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero), zero);
#elif defined(__aarch64__)
  uint32_t four;
  memcpy(&four, p, 4);
  return (vi)vmovl_u16(vget_low_u16(vmovl_u8((uint8x8_t)(uint32x2_t){four})));
#else
  return __builtin_convertvector(*(const vb_u *)p, vi);
#endif
}
GQA_INLINE vi vi_load_i8(const int8_t *p) {
#if VL == 16
  return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif VL == 8
  return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
#elif defined(__wasm__)
  return (vi)wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(p)));
#elif defined(__SSE2__)
  int32_t four;
  memcpy(&four, p, 4);
  __m128i pairs = _mm_cvtsi32_si128(four);
  pairs = _mm_unpacklo_epi8(pairs, pairs);
  return (vi)_mm_srai_epi32(_mm_unpacklo_epi16(pairs, pairs), 24);
#elif defined(__aarch64__)
  uint32_t four;
  memcpy(&four, p, 4);
  return (vi)vmovl_s16(vget_low_s16(vmovl_s8((int8x8_t)(uint32x2_t){four})));
#else
  return __builtin_convertvector(*(const vc_u *)p, vi);
#endif
}
#if defined(__aarch64__)
/* 16 bytes as four vectors: fewer instructions than four bytes at a time. */
GQA_INLINE void vf_widen_i8(int8x16_t bytes, vf *v) {
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  v[0] = (vf)vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
  v[1] = (vf)vcvtq_f32_s32(vmovl_high_s16(low));
  v[2] = (vf)vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
  v[3] = (vf)vcvtq_f32_s32(vmovl_high_s16(high));
}
#endif

GQA_INLINE vf vf_load_u8(const uint8_t *p) { return __builtin_convertvector(vi_load_u8(p), vf); }
GQA_INLINE vf vf_load_i8(const int8_t *p) { return __builtin_convertvector(vi_load_i8(p), vf); }

#endif
