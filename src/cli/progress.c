// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include "base/os.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE_S 0.4 // no bar before that, nor for work that will be over by 1 s
#define REDRAW_S   0.1
#define BAR_MAX    40

static void draw(struct progress *p, uint64_t done, uint64_t total, double now)
{
    char bar[BAR_MAX + 1];
    size_t columns = os_terminal_columns(2);
    size_t width = columns < 60 ? 10 : columns - 50 > BAR_MAX ? BAR_MAX : columns - 50;
    double share = total ? (double)done / (double)total : 0;
    size_t filled = (size_t)(share * (double)width);
    filled = filled > width ? width : filled;
    memset(bar, '#', filled);
    memset(bar + filled, '.', width - filled);
    bar[width] = '\0';

    double rate = (double)(done - p->first) / (now - p->started);
    double left = rate > 0 ? (double)(total - done) / rate : 0;
    char speed[48] = "";
    if (p->is_bytes) {
        snprintf(speed, sizeof(speed), "  %s/s", size_text((uint64_t)rate).text);
    } else if (!p->is_share) {
        snprintf(speed, sizeof(speed), "  %.0f tokens/s", rate);
    }
    fprintf(stderr, "\r\033[K%s [%s] %3.0f%%%s  %.0f:%02.0f left", p->what, bar, share * 100, speed,
            floor(left / 60), floor(fmod(left, 60)));
    fflush(stderr);
    p->drawn = now;
    p->is_drawn = true;
}

bool progress_report(void *user, const char *what, uint64_t done, uint64_t total)
{
    struct progress *p = user;
    double now = os_seconds();
    if (p->meanwhile) {
        p->meanwhile(p->user);
    }
    if (!p->what || strcmp(p->what, what) != 0) {
        progress_end(p);
        p->what = what;
        p->started = now;
        p->first = done;
    }
    double elapsed = now - p->started;
    if (p->is_visible && elapsed > PATIENCE_S && now - p->drawn > REDRAW_S && done > p->first &&
        done <= total) {
        double all = elapsed * (double)(total - p->first) / (double)(done - p->first);
        if (all > 1 || p->is_drawn) {
            draw(p, done, total, now);
        }
    }
    if (done >= total) {
        progress_end(p);
    }
    return !os_interrupted();
}

void progress_end(struct progress *p)
{
    if (p->is_drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    p->is_drawn = false;
    p->what = NULL;
    p->drawn = 0;
}
