#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <fcntl.h>
#include <signal.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/userfaultfd.h>
#include <linux/falloc.h>
#ifndef UFFDIO_POISON
struct uffdio_poison{struct uffdio_range range;__u64 mode;__s64 updated;};
#define UFFDIO_POISON _IOWR(0xAA,8,struct uffdio_poison)
#endif
static sigjmp_buf jb; static int si_code; static void h(int s,siginfo_t*i,void*u){si_code=i->si_code;siglongjmp(jb,s);}
static int rd(volatile char*p){int s=sigsetjmp(jb,1);if(s)return -s*1000-si_code;return (unsigned char)*p;}
static int wr(volatile char*p,char c){int s=sigsetjmp(jb,1);if(s)return -s*1000-si_code;*p=c;return 0;}
static int uffd(unsigned long f){int u=syscall(SYS_userfaultfd,O_NONBLOCK);struct uffdio_api a={.api=0xaa,.features=f};if(ioctl(u,UFFDIO_API,&a))perror("api");return u;}
static int reg(int u,void*p,size_t l,int m){struct uffdio_register r={.range={(unsigned long)p,l},.mode=m};int x=ioctl(u,UFFDIO_REGISTER,&r);if(x)perror("reg");return x;}
int main(){ setvbuf(stdout,0,_IONBF,0);
 struct sigaction sa={.sa_sigaction=h,.sa_flags=SA_SIGINFO};sigaction(SIGBUS,&sa,0);sigaction(SIGSEGV,&sa,0);
 { int fd=memfd_create("",0);ftruncate(fd,8192);
  char*p=mmap((void*)0x200000,8192,3,MAP_PRIVATE|MAP_FIXED,fd,0);int u=uffd(0);reg(u,p,8192,1);
  struct uffdio_poison z={.range={(unsigned long)p,8192}};printf("poison %d\n",ioctl(u,UFFDIO_POISON,&z));
  printf("load %d\n",rd(p)); int r=madvise(p,4096,MADV_POPULATE_READ);printf("populate_read %d %s\n",r,strerror(errno));
  r=madvise(p,4096,MADV_POPULATE_WRITE);printf("populate_write %d %s\n",r,strerror(errno));
  r=mlock(p,4096);printf("mlock %d %s\n",r,strerror(errno));munlock(p,4096);
  unsigned char v[2]={9,9};r=mincore(p,8192,v);printf("mincore poison %d %d %d\n",r,v[0],v[1]);
  r=read(open("/dev/zero",O_RDONLY),p,10);printf("read into %d %s\n",r,strerror(errno));
  int m=open("/proc/self/mem",O_RDWR);char b[10];r=pread(m,b,10,(long)p);printf("proc mem %d %s\n",r,strerror(errno));
  munmap(p,8192);close(u);}
 { int fd=memfd_create("",0);ftruncate(fd,16384);pwrite(fd,"A",1,0);
  char*p=mmap((void*)0x200000,16384,3,MAP_SHARED|MAP_FIXED,fd,0);
  printf("guard %d\n",madvise(p,8192,102)); unsigned char v[4]={9,9,9,9};int r=mincore(p,16384,v);printf("mincore guard %d %d %d %d %d\n",r,v[0],v[1],v[2],v[3]);
  printf("load %d\n",rd(p)); r=madvise(p,4096,MADV_POPULATE_READ);printf("populate_read %d %s\n",r,strerror(errno));
  r=mlock(p,4096);printf("mlock %d %s\n",r,strerror(errno));munlock(p,4096);
  ftruncate(fd,0);ftruncate(fd,16384);printf("after truncate %d\n",rd(p));
  fallocate(fd,FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE,0,4096);printf("after punch %d\n",rd(p));
  if(!fork()){printf("child %d\n",rd(p));_exit(0);}wait(0);
  char*q=mremap(p,8192,8192,MREMAP_MAYMOVE|MREMAP_FIXED,(void*)0x400000);printf("moved %d\n",rd(q));
  printf("remove %d load %d\n",madvise(q,8192,103),rd(q));munmap(q,8192);munmap(p,16384);}
 { // wp marker mincore
  int fd=memfd_create("",0);ftruncate(fd,16384);pwrite(fd,"A",1,0);char*p=mmap((void*)0x200000,16384,3,MAP_SHARED|MAP_FIXED,fd,0);int u=uffd(0);reg(u,p,16384,2);
  struct uffdio_writeprotect w={.range={(unsigned long)p,16384},.mode=1};ioctl(u,UFFDIO_WRITEPROTECT,&w);unsigned char v[4]={9,9,9,9};int r=mincore(p,16384,v);printf("mincore wp %d %d %d %d %d\n",r,v[0],v[1],v[2],v[3]);
  close(u);munmap(p,16384);}
 { // truncated private swapped... poison then truncate (even_cows)
  int fd=memfd_create("",0);ftruncate(fd,8192);char*p=mmap((void*)0x200000,8192,3,MAP_SHARED|MAP_FIXED,fd,0);int u=uffd(0);reg(u,p,8192,1);
  struct uffdio_poison z={.range={(unsigned long)p,8192}};ioctl(u,UFFDIO_POISON,&z);
  fallocate(fd,FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE,0,4096);struct uffdio_range rg={(unsigned long)p,8192};ioctl(u,UFFDIO_UNREGISTER,&rg);
  printf("poison after punch %d\n",rd(p));ftruncate(fd,0);ftruncate(fd,8192);printf("poison after truncate %d\n",rd(p));munmap(p,8192);close(u);}
}
