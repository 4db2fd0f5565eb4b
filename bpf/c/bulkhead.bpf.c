/* All kernel programs of Bulkhead, in one object; user space loads those that the kernel can take and the
 * containers need. Read them in the order of their includes: path, origin, event, exec, code, file, call, life,
 * net, segment, flow, lsm. */
#include "lsm.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
