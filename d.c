#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>
int main(){int u=syscall(SYS_userfaultfd,O_NONBLOCK);struct uffdio_api a={.api=0xaa};ioctl(u,UFFDIO_API,&a);
for(unsigned long s=0;s<0x20000;s+=0x1000){struct uffdio_zeropage z={.range={s,4096}};int r=ioctl(u,UFFDIO_ZEROPAGE,&z);printf("%lx zeropage %d %s; ",s,r,strerror(errno));struct uffdio_range g={s,4096};errno=0;r=ioctl(u,UFFDIO_WAKE,&g);printf("wake %d %s\n",r,strerror(errno));if(s>0x2000)break;}}
