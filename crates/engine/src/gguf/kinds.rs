//! The numbered element types and file types of GGUF: names, and bytes of a block.

/// One element type: number, name, elements of a block, bytes of a block.
const KINDS: [(u32, &str, u64, u64); 19] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (24, "I8", 1, 1),
    (26, "I32", 1, 4),
    (28, "F64", 1, 8),
    (30, "BF16", 1, 2),
    (39, "MXFP4", 32, 17),
];

/// What `general.file_type` numbers mean.
const FILES: [(u64, &str); 19] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (30, "IQ4_XS"),
    (32, "BF16"),
    (38, "MXFP4"),
];

/// The name of an element type.
pub fn tensor_kind(kind: u32) -> &'static str {
    KINDS.iter().find(|known| known.0 == kind).map_or("unknown", |known| known.1)
}

/// The name of a file's quantization.
pub fn quantization(file_type: Option<u64>) -> &'static str {
    FILES.iter().find(|known| Some(known.0) == file_type).map_or("unknown", |known| known.1)
}

/// Bytes of a tensor; 0 where the type is not known, so that nothing is refused on a guess.
pub(super) fn bytes(kind: u32, shape: &[u64]) -> u64 {
    let elements = shape.iter().fold(1, |n: u64, d| n.saturating_mul(*d));
    KINDS.iter().find(|known| known.0 == kind).map_or(0, |known| (elements / known.2).saturating_mul(known.3))
}
