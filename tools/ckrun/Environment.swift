// Part of ckrun (freestanding, one stack, no allocation): the environment that the application gets.
import CkptABI
import Freestanding

struct Environment {
    let variables: Strings
    init(_ variables: Strings) { self.variables = variables }

    func value(of name: StaticString) -> UnsafePointer<CChar>? {
        var i = 0
        while let variable = variables[i] {
            if prefix(variable, name), variable[name.utf8CodeUnitCount] == 61 { return UnsafePointer(variable + name.utf8CodeUnitCount + 1) }
            i += 1
        }
        return nil
    }

    /// For a ckptctl that no user looks at.
    func quiet(_ text: inout TextMemory) -> Strings {
        var count = 0
        while variables[count] != nil { count += 1 }
        let result = text.pointers(count + 2)
        for i in 0..<count { result[i] = variables[i] }
        let variable: StaticString = "CKPT_QUIET=1"
        result[count] = UnsafeMutablePointer(mutating: variable.cString)
        return result
    }

    /// The same variables with our two set.  Nothing else changes, and the order stays.
    func forMember(segment: UnsafePointer<CChar>, library: UnsafePointer<CChar>, _ text: inout TextMemory) -> Strings {
        var count = 0
        while variables[count] != nil { count += 1 }
        let result = text.pointers(count + 3)
        var used = 0
        for i in 0..<count where !prefix(UnsafePointer(variables[i]!), "CKPT_SESSION=") && !prefix(UnsafePointer(variables[i]!), "LD_PRELOAD=") {
            result[used] = variables[i]
            used += 1
        }
        var mark = text.mark
        text.put("CKPT_SESSION=")
        text.put(text: segment)
        result[used] = UnsafeMutablePointer(mutating: text.finish(from: mark))
        mark = text.mark
        text.put("LD_PRELOAD=")
        putPreload(value(of: "LD_PRELOAD"), library, &text)
        result[used + 1] = UnsafeMutablePointer(mutating: text.finish(from: mark))
        return result
    }

    /// The user's own entries come first: sanitizers insist on it.  A runtime that is named already is not named twice.
    private func putPreload(_ old: UnsafePointer<CChar>?, _ library: UnsafePointer<CChar>, _ text: inout TextMemory) {
        if var entry = old {
            while entry[0] != 0 {
                var n = 0
                while entry[n] != 0 && entry[n] != 58 && entry[n] != 32 { n += 1 }
                if n > 0 && !isRuntime(entry, n) { text.put(text: entry, count: n); text.put(byte: 58) }
                entry += n
                if entry[0] != 0 { entry += 1 }
            }
        }
        text.put(text: library)
    }

    private func isRuntime(_ entry: UnsafePointer<CChar>, _ n: Int) -> Bool {
        let name: StaticString = "/libckpt.so"
        let length = name.utf8CodeUnitCount
        return n >= length && prefix(entry + n - length, name)
    }
}
