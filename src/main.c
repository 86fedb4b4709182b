/* Keeps the program buildable until the command line is written. */

#include <stdio.h>

extern const char tr_version[];

int main(void)
{
	printf("tailrace %s\n", tr_version);
	return 0;
}
