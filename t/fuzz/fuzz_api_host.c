/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The API's Host header: whatever is accepted names an address, localhost or the configured host.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "net/httpd_listen.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char configured[] = "node.example";
	char *text =
		malloc(size + 1); /* exactly as long, so that a sanitizer sees a read past it */
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	if (size && tr_httpd_host_ok(configured, (tr_str){ text, size })) {
		size_t host = strspn(text, "0123456789abcdefABCDEF.:[]");
		bool named = strncasecmp(text, "localhost", 9) == 0 ||
			     strncasecmp(text, configured, sizeof(configured) - 1) == 0;
		if (host != size && !named)
			abort();
	}
	free(text);
	return 0;
}
