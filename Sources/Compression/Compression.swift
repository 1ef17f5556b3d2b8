// Frames of zstd and lz4: one run of pages, compressed by itself, so that any number of threads can compress and decompress at the same time.
import CkptABI
import CLz4
import CZstd

public enum Compression: Equatable, Sendable {
    case none, zstd(level: Int32), lz4

    /// zstd, zstd:LEVEL, lz4, none
    public init?(_ text: String) {
        switch text {
        case "none": self = .none
        case "lz4": self = .lz4
        case "zstd": self = .zstd(level: ZSTD_defaultCLevel())
        default:
            guard text.hasPrefix("zstd:"), let level = Int32(text.dropFirst(5)), level >= 1, level <= ZSTD_maxCLevel() else { return nil }
            self = .zstd(level: level)
        }
    }
    /// As a statefile says it (struct ckpt_packing_record).
    public init?(kind: UInt32, level: Int32) {
        switch ckpt_compression(rawValue: kind) {
        case CKPT_COMPRESSION_NONE: self = .none
        case CKPT_COMPRESSION_LZ4: self = .lz4
        case CKPT_COMPRESSION_ZSTD where level >= 1 && level <= ZSTD_maxCLevel(): self = .zstd(level: level)
        default: return nil
        }
    }
    public var kind: ckpt_compression {
        switch self {
        case .none: CKPT_COMPRESSION_NONE
        case .zstd: CKPT_COMPRESSION_ZSTD
        case .lz4: CKPT_COMPRESSION_LZ4
        }
    }
    public var level: Int32 { if case .zstd(let level) = self { level } else { 0 } }
    public var name: String {
        switch self {
        case .none: "none"
        case .zstd(let level): "zstd:\(level)"
        case .lz4: "lz4"
        }
    }
}

/// For one thread.
public final class Compressor {
    public let method: Compression
    private let context: OpaquePointer?

    public init(_ method: Compression) {
        self.method = method
        if case .zstd(let level) = method {
            context = ZSTD_createCCtx()
            ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
        } else { context = nil }
    }
    deinit { ZSTD_freeCCtx(context) }

    /// How many bytes a frame of `pages` takes in `room`; nil: it does not become smaller.
    public func compress(_ pages: UnsafeRawBufferPointer, into room: UnsafeMutableRawBufferPointer) -> Int? {
        let limit = min(room.count, pages.count - 1)
        switch method {
        case .none: return nil
        case .zstd:
            let n = ZSTD_compress2(context, room.baseAddress, limit, pages.baseAddress, pages.count)
            return ZSTD_isError(n) != 0 ? nil : n
        case .lz4:
            let from = pages.baseAddress!.assumingMemoryBound(to: CChar.self), to = room.baseAddress!.assumingMemoryBound(to: CChar.self)
            let n = LZ4_compress_default(from, to, Int32(pages.count), Int32(limit))
            return n <= 0 ? nil : Int(n)
        }
    }
}

public enum Decompressor {
    /// Whether `frame` is one of this kind that becomes exactly as many bytes as there is room for.
    public static func decompress(_ kind: UInt32, _ frame: UnsafeRawBufferPointer, into room: UnsafeMutableRawBufferPointer) -> Bool {
        switch ckpt_compression(rawValue: kind) {
        case CKPT_COMPRESSION_ZSTD: return ZSTD_decompress(room.baseAddress, room.count, frame.baseAddress, frame.count) == room.count
        case CKPT_COMPRESSION_LZ4:
            let from = frame.baseAddress!.assumingMemoryBound(to: CChar.self), to = room.baseAddress!.assumingMemoryBound(to: CChar.self)
            return LZ4_decompress_safe(from, to, Int32(frame.count), Int32(room.count)) == Int32(room.count)
        default: return false
        }
    }
}
