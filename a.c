#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>
#include <linux/falloc.h>
static int uffd(unsigned long f){int u=syscall(SYS_userfaultfd,O_NONBLOCK);struct uffdio_api a={.api=0xaa,.features=f};if(ioctl(u,UFFDIO_API,&a))perror("api");return u;}
static int reg(int u,void*p,size_t l,int m){struct uffdio_register r={.range={(unsigned long)p,l},.mode=m};int x=ioctl(u,UFFDIO_REGISTER,&r);if(x)perror("reg");return x;}
int main(){
 { // punch in first page
  int fd=memfd_create("",0);ftruncate(fd,8192);char b[4096];memset(b,'B',4096);pwrite(fd,b,4096,4096);
  char*p=mmap((void*)0x200000,8192,3,MAP_PRIVATE|MAP_FIXED,fd,0);int u=uffd(0);reg(u,p,8192,1);
  struct uffdio_zeropage z={.range={(unsigned long)p+4096,4096}};ioctl(u,UFFDIO_ZEROPAGE,&z);
  printf("before %02x ",p[4096]);fallocate(fd,FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE,1024,2048);printf("after punch %02x\n",p[4096]);
  munmap(p,8192);close(u);close(fd);}
 { // dev zero
  int fd=open("/dev/zero",O_RDWR);char*p=mmap((void*)0x200000,8192,3,MAP_PRIVATE|MAP_FIXED,fd,0);int u=uffd(0);
  if(!reg(u,p,8192,1)){char b[4096]__attribute__((aligned(4096)));memset(b,'x',4096);struct uffdio_copy c={.dst=(unsigned long)p,.src=(unsigned long)b,.len=4096};int r=ioctl(u,UFFDIO_COPY,&c);printf("dev zero copy %d %d copy=%lld\n",r,errno,c.copy);}
  munmap(p,8192);close(u);close(fd);}
 { // unregister pgoff
  int fd=memfd_create("",0);ftruncate(fd,16384);char b[4096];for(int i=0;i<3;i++){memset(b,'A'+i,4096);pwrite(fd,b,4096,4096*i);}
  int u=uffd(0);char*p=mmap((void*)0x100000,12288,3,MAP_SHARED|MAP_FIXED,fd,0);reg(u,p,12288,1);
  mmap((void*)0x103000,4096,3,MAP_SHARED|MAP_FIXED,fd,8192);printf("%c ",p[8192]);
  struct uffdio_range r={0x101000,8192};ioctl(u,UFFDIO_UNREGISTER,&r);printf("unregister pgoff: %c (B is right)\n",p[4096]);
  munmap(p,16384);close(u);close(fd);}
}
