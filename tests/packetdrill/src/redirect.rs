//! Has the main program's own calls of a libc function go elsewhere.
//!
//! packetdrill reads TCP_INFO, and calls sendfile(2), by libc's functions and not by its table. A
//! library that is loaded with `dlopen` comes too late to interpose symbols, so the main program's
//! global offset table is changed: the slots that the linker has filled, or will fill, with the
//! address of that function (System V ABI, AMD64 supplement, §4.4 and §5.2).

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};

use libc::{Elf64_Phdr, Elf64_Sym, PT_DYNAMIC, dl_phdr_info};

const PT_GNU_RELRO: u32 = 0x6474_e552;
const DT_PLTRELSZ: i64 = 2;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;
const R_X86_64_GLOB_DAT: u32 = 6;
const R_X86_64_JUMP_SLOT: u32 = 7;

/// `Elf64_Dyn`
#[repr(C)]
struct Dynamic {
    tag: i64,
    value: u64,
}

/// `Elf64_Rela`
#[repr(C)]
struct Relocation {
    offset: u64,
    info: u64,
    addend: i64,
}

/// A function of libc by name, and what is called instead.
pub struct Redirect {
    /// The symbol.
    pub name: &'static CStr,
    /// A function of the same type.
    pub to: *const c_void,
}

/// Redirects the main program's calls; returns how many slots were changed.
///
/// # Safety
/// Each `to` is a function of the type that `name` has in libc, and lives as long as the process.
pub unsafe fn in_main_program(redirects: &[Redirect]) -> usize {
    let mut visit = Visit {
        redirects,
        changed: 0,
    };
    // SAFETY: `first` takes `visit` for what it is, and the linker's lock is held meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut visit).cast()) };
    visit.changed
}

struct Visit<'a> {
    redirects: &'a [Redirect],
    changed: usize,
}

/// The main program comes first (dl_iterate_phdr(3)); anything but 0 ends the walk.
unsafe extern "C" fn first(info: *mut dl_phdr_info, _: usize, visit: *mut c_void) -> c_int {
    // SAFETY: the linker's record of a loaded object, and the visit that was handed in.
    unsafe {
        let visit = &mut *visit.cast::<Visit>();
        let object = Object::of(&*info);
        for redirect in visit.redirects {
            visit.changed += object.map_or(0, |object| object.redirect(redirect));
        }
    }
    1
}

/// What the dynamic linker knows of a loaded object.
#[derive(Clone, Copy)]
struct Object {
    base: u64,
    symbols: *const Elf64_Sym,
    names: *const u8,
    /// Start and bytes of both tables.
    relocations: [(u64, u64); 2],
    /// Memory that was made read-only after relocation.
    read_only: (u64, u64),
}

impl Object {
    /// # Safety
    /// `info` describes an object that is loaded and stays so.
    unsafe fn of(info: &dl_phdr_info) -> Option<Object> {
        let base = info.dlpi_addr;
        // SAFETY: as many headers as the linker says.
        let headers: &[Elf64_Phdr] =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let segment = |kind| headers.iter().find(move |header| header.p_type == kind);
        let dynamic = (base + segment(PT_DYNAMIC)?.p_vaddr) as *const Dynamic;
        let value = |tag| {
            let mut entry = dynamic;
            // SAFETY: the section ends with tag 0 (DT_NULL).
            unsafe {
                while (*entry).tag != 0 && (*entry).tag != tag {
                    entry = entry.add(1);
                }
                (*entry).value
            }
        };
        // glibc has made addresses of the offsets already; other linkers leave them.
        let address = |tag| match value(tag) {
            offset if offset < base => base + offset,
            address => address,
        };
        let relro = segment(PT_GNU_RELRO).map_or((0, 0), |header| {
            (
                base + header.p_vaddr,
                base + header.p_vaddr + header.p_memsz,
            )
        });
        Some(Object {
            base,
            symbols: address(DT_SYMTAB) as *const Elf64_Sym,
            names: address(DT_STRTAB) as *const u8,
            relocations: [
                (address(DT_RELA), value(DT_RELASZ)),
                (address(DT_JMPREL), value(DT_PLTRELSZ)),
            ],
            read_only: relro,
        })
    }

    /// # Safety
    /// The object is loaded, and `redirect` has a function of the right type.
    unsafe fn redirect(&self, redirect: &Redirect) -> usize {
        let mut changed = 0;
        for (start, bytes) in self.relocations {
            let count = bytes as usize / size_of::<Relocation>();
            for index in 0..count {
                // SAFETY: the tables lie in the object; a relocation names a symbol of its, whose
                // name is a C string among its names.
                let (relocation, name) = unsafe {
                    let relocation = &*(start as *const Relocation).add(index);
                    let symbol = &*self.symbols.add((relocation.info >> 32) as usize);
                    let name = self.names.add(symbol.st_name as usize);
                    (relocation, CStr::from_ptr(name.cast()))
                };
                let is_slot =
                    [R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT].contains(&(relocation.info as u32));
                if is_slot && name == redirect.name {
                    // SAFETY: a relocation of this kind is an address of eight bytes.
                    changed += usize::from(unsafe {
                        self.store(self.base + relocation.offset, redirect.to as u64)
                    });
                }
            }
        }
        changed
    }

    /// # Safety
    /// `slot` is an aligned word of this object that nobody but the linker writes.
    unsafe fn store(&self, slot: u64, value: u64) -> bool {
        // SAFETY: the page belongs to the object's data; it gets back the protection that it had.
        unsafe {
            let size = libc::sysconf(libc::_SC_PAGESIZE) as u64;
            let page = (slot & !(size - 1)) as *mut c_void;
            let writable = libc::PROT_READ | libc::PROT_WRITE;
            if libc::mprotect(page, size as usize, writable) != 0 {
                return false;
            }
            std::sync::atomic::AtomicU64::from_ptr(slot as *mut u64)
                .store(value, std::sync::atomic::Ordering::SeqCst);
            let (start, end) = self.read_only;
            // The linker protects whole pages only.
            if page as u64 >= start & !(size - 1) && page as u64 + size <= end {
                libc::mprotect(page, size as usize, libc::PROT_READ);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn other_getpgid(_: libc::pid_t) -> libc::pid_t {
        -77
    }

    #[test]
    fn calls_of_the_main_program_go_elsewhere() {
        // SAFETY: no pointers.
        assert!(unsafe { libc::getpgid(0) } > 0);
        let redirects = [Redirect {
            name: c"getpgid",
            to: other_getpgid as *const c_void,
        }];
        // SAFETY: a function of getpgid's type.
        assert!(unsafe { in_main_program(&redirects) } > 0);
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::getpgid(0) }, -77);
    }

    #[test]
    fn a_function_that_is_not_called_changes_nothing() {
        let redirects = [Redirect {
            name: c"mtcp_no_such_symbol",
            to: other_getpgid as *const c_void,
        }];
        // SAFETY: nothing has that name.
        assert_eq!(unsafe { in_main_program(&redirects) }, 0);
    }
}
