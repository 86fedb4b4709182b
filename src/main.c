/* SPDX-License-Identifier: GPL-2.0-or-later */
/* argv to a subcommand, nothing else. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
	return tr_cli(argc, argv);
}
