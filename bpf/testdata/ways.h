/* One line per way: name, what is done once before, one attempt. In /vol (a volume) lie foreign, a static program;
 * foreign-dynamic; foreign.so; code, a page of machine code; script, a shell script. */

/* programs */
WAY(exec_dropped, copy_to("/vol/foreign", "/dropped"), EXECUTE("/dropped"))
WAY(exec_changed, known("/bin/tool"); copy_to("/vol/foreign", "/bin/tool"), EXECUTE("/bin/tool"))
WAY(exec_renamed_over, copy_to("/vol/foreign", "/new"); rename("/new", "/bin/tool"), EXECUTE("/bin/tool"))
WAY(exec_copied, copy_to("/bin/tool", "/copy"), EXECUTE("/copy"))
WAY(exec_hard_link, link("/bin/tool", "/linked"), EXECUTE("/linked"))
WAY(exec_symlink, copy_to("/vol/foreign", "/dropped"); symlink("/dropped", "/bin/tool2"), EXECUTE("/bin/tool2"))
WAY(exec_symlinked_folder, mkdir("/d", 0755); copy_to("/vol/foreign", "/d/tool"); symlink("/d", "/bin/e"), EXECUTE("/bin/e/tool"))
WAY(exec_symlink_race, symlink("/bin/tool", "/which"); copy_to("/vol/foreign", "/dropped"),
	char n[32]; sprintf(n, "/n%d", getpid()); symlink("/dropped", n); rename(n, "/which"); EXECUTE("/which"))
WAY(exec_shm, copy_to("/vol/foreign", "/dev/shm/dropped"), EXECUTE("/dev/shm/dropped"))
WAY(exec_tmpfs, copy_to("/vol/foreign", "/run/dropped"), EXECUTE("/run/dropped"))
WAY(exec_volume, , EXECUTE("/vol/foreign"))
WAY(exec_memory, , char *a[] = {"m", 0}; char *e[] = {0}; fexecve(memory_file("/vol/foreign"), a, e); _exit(MISSED))
WAY(exec_tmpfile, , int f = open("/", O_TMPFILE | O_RDWR, 0755); if (f < 0) _exit(IMPOSSIBLE); copy("/vol/foreign", f);
	char n[64]; sprintf(n, "/proc/self/fd/%d", f); int g = open(n, O_RDONLY); close(f); char *a[] = {"t", 0}; char *e[] = {0}; syscall(SYS_execveat, g, "", a, e, AT_EMPTY_PATH); _exit(MISSED))
WAY(exec_unlinked, , char n[32]; sprintf(n, "/u%d", getpid()); copy_to("/vol/foreign", n); int f = opened(n); unlink(n); char *a[] = {"t", 0}; char *e[] = {0}; fexecve(f, a, e); _exit(MISSED))
WAY(exec_loader_replaced, copy_to("/vol/foreign-loader", "/lib64/ld-linux-x86-64.so.2"), EXECUTE("/bin/quiet-dynamic"))
WAY(exec_not_learned, , EXECUTE("/bin/unlearned"))

/* the dynamic loader, itself allowed */
WAY(loader_dropped, copy_to("/vol/foreign-dynamic", "/dropped"), EXECUTE("/lib64/ld-linux-x86-64.so.2", "/dropped"))
WAY(loader_shm, copy_to("/vol/foreign-dynamic", "/dev/shm/dropped"), EXECUTE("/lib64/ld-linux-x86-64.so.2", "/dev/shm/dropped"))
WAY(loader_volume, , EXECUTE("/lib64/ld-linux-x86-64.so.2", "/vol/foreign-dynamic"))
WAY(loader_preload, copy_to("/vol/foreign.so", "/dropped.so"), EXECUTE("/lib64/ld-linux-x86-64.so.2", "--preload", "/dropped.so", "/bin/quiet-dynamic"))
WAY(preload, copy_to("/vol/foreign.so", "/dropped.so"), char *a[] = {"q", 0}; char *e[] = {"LD_PRELOAD=/dropped.so", 0}; execve("/bin/quiet-dynamic", a, e); _exit(MISSED))
WAY(dlopen_dropped, copy_to("/vol/foreign.so", "/dropped.so"), dlopen("/dropped.so", RTLD_NOW))
WAY(dlopen_changed, known("/lib/own.so"); copy_to("/vol/foreign.so", "/lib/own.so"), dlopen("/lib/own.so", RTLD_NOW))
WAY(dlopen_shm, copy_to("/vol/foreign.so", "/dev/shm/dropped.so"), dlopen("/dev/shm/dropped.so", RTLD_NOW))
WAY(dlopen_volume, , dlopen("/vol/foreign.so", RTLD_NOW))

/* mappings of files */
WAY(map_dropped, copy_to("/vol/code", "/code"), run(mapped(opened("/code"), RX, MAP_PRIVATE)))
WAY(map_shared, copy_to("/vol/code", "/code"), run(mapped(opened("/code"), RX, MAP_SHARED)))
WAY(map_changed, known("/lib/return"); copy_to("/vol/code", "/lib/return"), run(mapped(opened("/lib/return"), RX, MAP_PRIVATE)))
WAY(map_volume, , run(mapped(opened("/vol/code"), RX, MAP_PRIVATE)))
WAY(map_shm, copy_to("/vol/code", "/dev/shm/code"), run(mapped(opened("/dev/shm/code"), RX, MAP_PRIVATE)))
WAY(map_memory, , run(mapped(memory_file("/vol/code"), RX, MAP_PRIVATE)))
WAY(map_memory_shared, , run(mapped(memory_file("/vol/code"), RX, MAP_SHARED)))
WAY(map_tmpfile, , int f = open("/", O_TMPFILE | O_RDWR, 0755); if (f < 0) _exit(IMPOSSIBLE); write(f, code, PAGE); run(mapped(f, RX, MAP_PRIVATE)))
WAY(map_unlinked, , char n[32]; sprintf(n, "/u%d", getpid()); int f = open(n, O_CREAT | O_RDWR, 0755); write(f, code, PAGE); unlink(n); run(mapped(f, RX, MAP_PRIVATE)))
WAY(map_implied, copy_to("/vol/code", "/code"), personality(READ_IMPLIES_EXEC); run(mapped(opened("/code"), PROT_READ, MAP_PRIVATE)))
WAY(map_zero_device, , char *p = mmap(0, PAGE, RWX, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0); if (p == MAP_FAILED) _exit(MISSED); memcpy(p, code, PAGE); run(p))

/* mappings that become code */
WAY(protect_dropped, copy_to("/vol/code", "/code"), void *p = mapped(opened("/code"), PROT_READ, MAP_PRIVATE); if (mprotect(p, PAGE, RX)) _exit(MISSED); run(p))
WAY(protect_read_first, copy_to("/vol/code", "/code"), char *p = mapped(opened("/code"), PROT_READ, MAP_PRIVATE); *(volatile char *)p; if (mprotect(p, PAGE, RX)) _exit(MISSED); run(p))
WAY(protect_key, copy_to("/vol/code", "/code"), void *p = mapped(opened("/code"), PROT_READ, MAP_PRIVATE); if (syscall(SYS_pkey_mprotect, p, PAGE, RX, -1)) _exit(MISSED); run(p))
WAY(protect_behind_own, copy_to("/vol/code", "/code"), char *p = mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE, opened("/bin/tool"), 0);
	mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, opened("/code"), 0); if (mprotect(p, 2 * PAGE, RX)) _exit(MISSED); run(p + PAGE))
WAY(protect_contended, copy_to("/vol/code", "/code"), for (int i = 0; i < 3; i++) thread(hammer); usleep(300); void *p = mapped(opened("/code"), PROT_READ, MAP_PRIVATE); if (mprotect(p, PAGE, RX)) _exit(MISSED); run(p))
WAY(image_page_written, , char *p = mapped(opened("/lib/return"), PROT_READ | PROT_WRITE, MAP_PRIVATE); memcpy(p, code, PAGE); if (mprotect(p, PAGE, RX)) _exit(MISSED); run(p))
WAY(image_page_writable, , char *p = mapped(opened("/lib/return"), RWX, MAP_PRIVATE); if (p == MAP_FAILED) _exit(MISSED); memcpy(p, code, PAGE); run(p))
WAY(shared_memory, , int id = shmget(IPC_PRIVATE, PAGE, 0700 | IPC_CREAT); char *w = shmat(id, 0, 0); memcpy(w, code, PAGE); void *p = shmat(id, 0, SHM_EXEC); shmctl(id, IPC_RMID, 0); run(p))
WAY(shared_memory_protect, , int id = shmget(IPC_PRIVATE, PAGE, 0700 | IPC_CREAT); char *w = shmat(id, 0, 0); shmctl(id, IPC_RMID, 0); memcpy(w, code, PAGE); if (mprotect(w, PAGE, RX)) _exit(MISSED); run(w))

/* the 32-bit entries, and x32 */
WAY(int80_protect, copy_to("/vol/code", "/code"), void *p = low(opened("/code")); if (int80(125, (long)p, PAGE, RX, 0, 0)) _exit(MISSED); run(p))
WAY(int80_map, copy_to("/vol/code", "/code"), long r = int80(192, 0x30000000, PAGE, RX, MAP_PRIVATE | MAP_FIXED, opened("/code")); if (r != 0x30000000) _exit(MISSED); run((void *)r))
WAY(int80_old_map, copy_to("/vol/code", "/code"), unsigned *b = (void *)low(-1); b = mmap((void *)0x20000000, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
	b[0] = 0x30000000; b[1] = PAGE; b[2] = RX; b[3] = MAP_PRIVATE | MAP_FIXED; b[4] = opened("/code"); b[5] = 0; long r = int80(90, (long)b, 0, 0, 0, 0); if (r != 0x30000000) _exit(MISSED); run((void *)r))
WAY(x32_map, copy_to("/vol/code", "/code"), long r = syscall(0x40000000 | SYS_mmap, 0, PAGE, RX, MAP_PRIVATE, opened("/code"), 0); if (r == -1) _exit(errno == ENOSYS ? IMPOSSIBLE : MISSED); run((void *)r))

/* memory without a file, in a program that was never seen to make code */
WAY(anonymous_mapped, , char *p = mmap(0, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) _exit(MISSED); memcpy(p, code, PAGE); run(p))
WAY(anonymous_protected, , char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); memcpy(p, code, PAGE); if (mprotect(p, PAGE, RX)) _exit(MISSED); run(p))
WAY(anonymous_heap, , char *p = (void *)(((long)sbrk(3 * PAGE) + PAGE) & ~(PAGE - 1L)); memcpy(p, code, PAGE); if (mprotect(p, PAGE, RX)) _exit(MISSED); run(p))
WAY(anonymous_stack, , char b[3 * PAGE]; char *p = (void *)(((long)b + PAGE) & ~(PAGE - 1L)); memcpy(p, code, PAGE); if (mprotect(p, PAGE, RWX)) _exit(MISSED); run(p))
WAY(anonymous_implied, , personality(READ_IMPLIES_EXEC); char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) _exit(MISSED); memcpy(p, code, PAGE); run(p))
WAY(process_memory, , if (pwrite(write_only_self(), code, 64, (off_t)(long)&victim) != 64) _exit(IMPOSSIBLE); victim())
WAY(process_memory_int80, , char *n = mmap((void *)0x20000000, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0); strcpy(n, "/proc/self/mem");
	int f = int80(5, (long)n, O_RDWR, 0, 0, 0); if (f < 0) _exit(MISSED); if (pwrite(f, code, 64, (off_t)(long)&victim) != 64) _exit(IMPOSSIBLE); victim())
WAY(process_memory_of_task, , char n[64]; sprintf(n, "/proc/self/task/%d/mem", getpid()); int f = open(n, O_WRONLY); if (f < 0) _exit(MISSED); if (pwrite(f, code, 64, (off_t)(long)&victim) != 64) _exit(IMPOSSIBLE); victim())
WAY(traced, , poke())

/* races */
WAY(race_thread, copy_to("/vol/code", "/code"), prepare_race(); thread(spin); while (!spinning); pause_a_little(); mmap(target, PAGE, RX, MAP_PRIVATE | MAP_FIXED | MAP_POPULATE, foreign, 0); usleep(2000))
WAY(race_shared_space, copy_to("/vol/code", "/code"), prepare_race(); char *stack = malloc(65536); int pid = clone(spin_process, stack + 65000, CLONE_VM | SIGCHLD, 0); while (!spinning); pause_a_little();
	mmap(target, PAGE, RX, MAP_PRIVATE | MAP_FIXED | MAP_POPULATE, foreign, 0); usleep(2000); kill(pid, SIGKILL))
WAY(race_descriptor, copy_to("/vol/code", "/code"), swapped(0, 0))
WAY(race_descriptor_thread, copy_to("/vol/code", "/code"), swapped(1, 0))
WAY(race_descriptor_populated, copy_to("/vol/code", "/code"), swapped(1, MAP_POPULATE))

/* scripts */
WAY(script_shebang, copy_to("/vol/script", "/script"), EXECUTE("/script"))
WAY(script_shell, copy_to("/vol/script", "/script"), EXECUTE("/bin/sh", "/script"))
WAY(script_changed, known("/opt/script"); copy_to("/vol/script", "/opt/script"), EXECUTE("/bin/sh", "/opt/script"))
WAY(script_changed_shebang, known("/opt/script"); copy_to("/vol/script", "/opt/script"), EXECUTE("/opt/script"))
WAY(script_volume, , EXECUTE("/bin/sh", "/vol/script"))
WAY(script_shm, copy_to("/vol/script", "/dev/shm/script"), EXECUTE("/bin/sh", "/dev/shm/script"))
WAY(script_memory, , char n[64]; sprintf(n, "/proc/self/fd/%d", memory_file("/vol/script")); EXECUTE("/bin/sh", n))
WAY(script_input, copy_to("/vol/script", "/script"), dup2(opened("/script"), 0); EXECUTE("/bin/sh"))
WAY(script_input_memory, , int f = memory_file("/vol/script"); lseek(f, 0, SEEK_SET); dup2(f, 0); EXECUTE("/bin/sh"))
WAY(script_sourced, copy_to("/vol/script", "/script"), EXECUTE("/bin/sh", "-c", ". /script"))
WAY(script_descriptor, copy_to("/vol/script", "/script"), dup2(opened("/script"), 7); EXECUTE("/bin/sh", "-c", ". /proc/self/fd/7"))
WAY(script_renamed_shell, copy_to("/vol/script", "/script"), named("/bin/busybox", "x/sh", "/script", NULL))
WAY(script_login_shell, copy_to("/vol/script", "/script"), named("/bin/busybox", "-sh", "/script", NULL))
WAY(script_profile, copy_to("/vol/script", "/etc/profile"), dup2(open("/dev/null", O_RDONLY), 0); named("/bin/busybox", "-sh", NULL))
WAY(script_environment, copy_to("/vol/script", "/script"), char *a[] = {"sh", "-ic", ":", 0}; char *e[] = {"ENV=/script", 0}; execve("/bin/sh", a, e); _exit(MISSED))

/* busybox called by a name that was not learned: dd writes to the canary what it reads */
WAY(applet_symlink, symlink("/bin/busybox", "/dd"), EXECUTE("/dd", "if=/bin/letter", "of=/proc/self/fd/9", "oflag=append", "conv=notrunc"))
WAY(applet_name, , named("/bin/busybox", "dd", "if=/bin/letter", "of=/proc/self/fd/9", "oflag=append", "conv=notrunc", NULL))
WAY(applet_argument, , named("/bin/busybox", "busybox", "dd", "if=/bin/letter", "of=/proc/self/fd/9", "oflag=append", "conv=notrunc", NULL))
WAY(applet_folder, , named("/bin/busybox", "sh/dd", "if=/bin/letter", "of=/proc/self/fd/9", "oflag=append", "conv=notrunc", NULL))
WAY(applet_long_name, , named("/bin/busybox", hidden_name("sh", "/dd"), "if=/bin/letter", "of=/proc/self/fd/9", "oflag=append", "conv=notrunc", NULL))
WAY(applet_from_shell, , EXECUTE("/bin/sh", "-c", "ash -c 'echo -n x >&9'"))
WAY(applet_shell, , EXECUTE("/bin/busybox", "sh", "-c", "echo -n x >&9"))
WAY(applet_copied, copy_to("/bin/busybox", "/sh"), EXECUTE("/sh", "-c", "echo -n x >&9"))
WAY(applet_hard_link, link("/bin/busybox", "/sh"), EXECUTE("/sh", "-c", "echo -n x >&9"))

/* what must go on working */
WAY(own_program, , EXECUTE("/bin/tool"))
WAY(own_program_symlink, symlink("/bin/tool", "/link"), EXECUTE("/link"))
WAY(own_program_dynamic, , EXECUTE("/bin/tool-dynamic"))
WAY(own_program_loader, , EXECUTE("/lib64/ld-linux-x86-64.so.2", "/bin/tool-dynamic"))
WAY(own_library, , dlopen("/lib/own.so", RTLD_NOW))
WAY(own_preload, , char *a[] = {"q", 0}; char *e[] = {"LD_PRELOAD=/lib/own.so", 0}; execve("/bin/quiet-dynamic", a, e); _exit(MISSED))
WAY(own_mapping, , run(mapped(opened("/lib/own-code"), RX, MAP_PRIVATE)))
WAY(own_protect, , void *p = mapped(opened("/lib/own-code"), PROT_READ, MAP_PRIVATE); mprotect(p, PAGE, RX); run(p))
WAY(own_script, , EXECUTE("/bin/sh", "/opt/script"))
WAY(own_shebang, , EXECUTE("/opt/script"))
WAY(own_command, , EXECUTE("/bin/sh", "-c", "echo -n x >&9"))
WAY(own_tool_reads_foreign, copy_to("/bin/letter", "/foreign-data"), dup2(CANARY, 1); EXECUTE("/bin/cat", "/foreign-data"))
WAY(own_data, , char *p = mapped(memory_file("/vol/code"), PROT_READ | PROT_WRITE, MAP_SHARED); if (*p) write(9, "x", 1))
WAY(learned_foreign, copy_to("/vol/foreign", "/learned"), EXECUTE("/learned"))
WAY(learned_script, copy_to("/vol/script", "/learned-script"), EXECUTE("/bin/sh", "/learned-script"))
