// Services on files: fixed ones, and those of a tree that --dir names.
#include "workload.h"
#include <dirent.h>

enum { DIRECTORIES = 50, EACH = 20 };

// The files of the tree, directory by directory.
static char paths[DIRECTORIES * EACH][256];

static void name_files(const char *root) {
    for (int i = 0; i < DIRECTORIES * EACH; i++) {
        int len = snprintf(paths[i], sizeof *paths, "%s/%02d/%02d", root, i / EACH, i % EACH);
        if (len >= (int)sizeof *paths) die("the name of the directory is too long");
    }
}

void make_tree(const char *root) {
    char name[300];
    mkdir(root, 0755);
    for (int i = 0; i < DIRECTORIES; i++) {
        snprintf(name, sizeof name, "%s/%02d", root, i);
        mkdir(name, 0755);
    }
    name_files(root);
    for (int i = 0; i < DIRECTORIES * EACH; i++) {
        int fd = need(open(paths[i], O_WRONLY | O_CREAT, 0644), paths[i]);
        need(write(fd, buffer, sizeof buffer), paths[i]);
        close(fd);
    }
}

static const char *file(long at) {
    if (!*paths[0]) name_files(directory);
    return paths[at % files];
}

static int open_file(long at, int flags) { return need(open(file(at), flags), file(at)); }

static void stat_file(long n) {
    struct stat s;
    for (long i = 0; i < n; i++) need(stat(file(i), &s), file(i));
}

static void open_close_file(long n) { for (long i = 0; i < n; i++) close(open_file(i, O_RDONLY)); }

static void read_file(long n) {
    for (long i = 0; i < n; i++) {
        int fd = open_file(i, O_RDONLY);
        if (pread(fd, buffer, 1024, 4096) != 1024) die(file(i));
        close(fd);
    }
}

static void write_file(long n) {
    for (long i = 0; i < n; i++) {
        int fd = open_file(i, O_WRONLY);
        if (pwrite(fd, buffer, 1024, 4096) != 1024) die(file(i));
        close(fd);
    }
}

static void pread_file(long n) {
    int fd = open_file(0, O_RDONLY);
    begin();
    while (n--) need(pread(fd, buffer, 1024, 4096), "pread");
    end();
    close(fd);
}

static void pwrite_file(long n) {
    int fd = open_file(0, O_WRONLY);
    begin();
    while (n--) need(pwrite(fd, buffer, 1024, 4096), "pwrite");
    end();
    close(fd);
}

static void create_in(const char *name) {
    int fd = need(open(name, O_RDWR | O_CREAT | O_EXCL, 0600), name);
    need(write(fd, buffer, 1024), "write");
    close(fd);
    need(unlink(name), "unlink");
}

static void create_unlink_file(long n) {
    char name[300];
    snprintf(name, sizeof name, "%s/new", directory);
    while (n--) create_in(name);
}

static long count_entries(const char *name) {
    DIR *dir = opendir(name);
    long seen = 0;
    if (!dir) die(name);
    while (readdir(dir)) seen++;
    closedir(dir);
    return seen;
}

static void readdir_tree(long n) {
    while (n--) if (count_entries(directory) != DIRECTORIES + 2) die("readdir");
}

// A file of the upper layer.
static int scratch(void) {
    static int fd = -1;
    if (fd < 0) {
        fd = need(open("/tmp/workload.file", O_RDWR | O_CREAT | O_TRUNC, 0600), "/tmp/workload.file");
        for (int i = 0; i < 64; i++) need(write(fd, buffer, 1024), "write");
        unlink("/tmp/workload.file");
    }
    return fd;
}

static void stat_present(long n) {
    struct stat s;
    while (n--) need(stat("/usr/bin/env", &s), "/usr/bin/env");
}

static void stat_absent(long n) {
    struct stat s;
    while (n--) if (stat("/usr/bin/no-such-file", &s) == 0) die("stat");
}

static void open_close(long n) { while (n--) close(need(open("/usr/bin/env", O_RDONLY), "/usr/bin/env")); }
static void pread_upper(long n) { for (int fd = scratch(); n--;) need(pread(fd, buffer, 1024, 4096), "pread"); }
static void pwrite_upper(long n) { for (int fd = scratch(); n--;) need(pwrite(fd, buffer, 1024, 4096), "pwrite"); }

static void pread_below(long n) {
    int fd = need(open("/usr/bin/env", O_RDONLY), "/usr/bin/env");
    while (n--) need(pread(fd, buffer, 1024, 4096), "pread");
    close(fd);
}

static void create_unlink(long n) { while (n--) create_in("/tmp/workload.new"); }

static void read_directory(long n) {
    char name[64];
    mkdir("/tmp/workload.dir", 0700);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "/tmp/workload.dir/%d", i);
        close(need(open(name, O_CREAT | O_RDWR, 0600), name));
    }
    begin();
    while (n--) if (count_entries("/tmp/workload.dir") != 102) die("readdir");
    end();
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "/tmp/workload.dir/%d", i);
        unlink(name);
    }
    rmdir("/tmp/workload.dir");
}

const struct service file_services[] = {
    {"stat-present", stat_present},
    {"stat-absent", stat_absent},
    {"open-close", open_close},
    {"pread-1k-upper", pread_upper},
    {"pwrite-1k-upper", pwrite_upper},
    {"pread-1k-below", pread_below},
    {"create-write-unlink", create_unlink},
    {"readdir-100", read_directory},
    {"files-stat", stat_file},
    {"files-open-close", open_close_file},
    {"files-open-read-close", read_file},
    {"files-open-write-close", write_file},
    {"files-pread", pread_file},
    {"files-pwrite", pwrite_file},
    {"files-create-unlink", create_unlink_file},
    {"files-readdir", readdir_tree},
    {NULL, NULL},
};
