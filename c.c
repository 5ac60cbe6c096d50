#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <sys/mman.h>
#define A(x) ((void*)(unsigned long)(x))
static void s(const char*w,void*r){printf("%-28s %s\n",w,r==MAP_FAILED?strerror(errno):"ok");}
static int mapped(unsigned long a){unsigned char v;return mincore(A(a),4096,&v)==0;}
int main(){int F=MREMAP_MAYMOVE|MREMAP_FIXED;
 mmap(A(0x100000),8192,3,MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED,-1,0);mprotect(A(0x101000),4096,1);
 mmap(A(0x200000),16384,3,MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED,-1,0);*(char*)A(0x100000)='A';
 s("two vmas",mremap(A(0x100000),8192,8192,F,A(0x300000)));printf("%d %d\n",mapped(0x300000),mapped(0x301000));
 s("grow past vma",mremap(A(0x300000),8192,12288,F,A(0x200000)));printf("target still mapped %d\n",mapped(0x200000));
 s("unmapped source",mremap(A(0x500000),4096,4096,F,A(0x200000)));printf("target still mapped %d\n",mapped(0x200000));
 s("noop unmapped",mremap(A(0x500000),4096,4096,0));
 s("shrink unmapped",mremap(A(0x500000),8192,4096,0));
 s("shrink past vma",mremap(A(0x301000),8192,4096,0));
 // gap
 mmap(A(0x600000),4096,3,MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED,-1,0);mmap(A(0x602000),4096,1,MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED,-1,0);
 s("gap",mremap(A(0x600000),12288,12288,F,A(0x700000)));printf("%d %d %d\n",mapped(0x700000),mapped(0x701000),mapped(0x702000));
 s("start gap",mremap(A(0x6ff000),12288,12288,F,A(0x800000)));
 mmap(A(0x900000),12288,3,MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED,-1,0);
 s("dontunmap part",mremap(A(0x900000),8192,8192,F|4,A(0xa00000)));printf("%d %d\n",mapped(0x900000),mapped(0xa00000));
}
