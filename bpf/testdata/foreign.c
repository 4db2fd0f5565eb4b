/* What must not run: writes one byte to descriptor 9, as a program, or when it is loaded as a library. */
#include <unistd.h>

#ifdef LIBRARY
__attribute__((constructor)) static void loaded(void) { (void)!write(9, "x", 1); }
#elif defined QUIET
int main(void) { return 0; }
#elif defined LOADER
void _start(void) {
	long r;
	asm volatile("syscall" : "=a"(r) : "a"(1), "D"(9), "S"("x"), "d"(1) : "rcx", "r11", "memory");
	asm volatile("syscall" : "=a"(r) : "a"(231), "D"(0) : "rcx", "r11", "memory");
}
#else
int main(void) { return write(9, "x", 1) != 1; }
#endif
