// What the services share: see main.c for the command line.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

// A service runs n operations. What it sets up before begin() and clears away after end() is not counted; one that
// calls neither is counted whole.
struct service {
    const char *name;
    void (*run)(long);
};

// Each table ends with a row without a name.
extern const struct service call_services[], file_services[], memory_services[], process_services[], trip_services[];

extern char buffer[8192];
extern int64_t began, ended;
// Files of --dir, and how many of them a service goes round: --files.
extern const char *directory;
extern long files;

void die(const char *what);
int need(int result, const char *what);
int64_t now(void);
void begin(void);
void end(void);
void *map(size_t len);
void reap(pid_t pid);
void make_tree(const char *root);
void touch_heap(long mib);
