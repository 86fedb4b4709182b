/* SPDX-License-Identifier: GPL-2.0-or-later */
/* argv to a subcommand, nothing else. */
#include "base/exit.h"
#include "cli/cli.h"

int main(int argc, char **argv)
{
	tr_exit(tr_cli(argc, argv));
}
