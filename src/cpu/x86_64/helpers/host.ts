// Callbacks into the thread's JavaScript.

/** Local APIC, x2APIC and KVM registers: value to HOST_VALUE. 1, or 0 for #GP. */
@external("host", "host_rdmsr")
export declare function host_rdmsr(index: i32): i32;

/** Writes HOST_VALUE. 1, 0 for #GP, 2: done, and whether an interrupt waits may have changed. */
@external("host", "host_wrmsr")
export declare function host_wrmsr(index: i32): i32;

/** The host's time-stamp counter to HOST_VALUE. */
@external("host", "host_tsc")
export declare function host_tsc(): void;

/** Task priority (CR8) to or from HOST_VALUE; result of a write as of host_wrmsr(). */
@external("host", "host_cr8")
export declare function host_cr8(write: i32): i32;

/** An access to IO_ADDRESS of IO_SIZE bytes, data in IO_DATA: 1 done, 0 the access is for the outside. */
@external("host", "host_mmio")
export declare function host_mmio(write: i32): i32;

/** The same for a port. */
@external("host", "host_pio")
export declare function host_pio(write: i32): i32;

/** The page of this host offset may be written from now on (layout.ts, TELL_WRITES). */
@external("host", "host_page_written")
export declare function host_page_written(host: u32): void;
