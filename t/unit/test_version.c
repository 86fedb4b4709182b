/* The library says the version that the build was configured with. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

extern const char tr_version[];

static void version_is_configured(void **state)
{
	(void)state;
	assert_string_equal(tr_version, PACKAGE_VERSION);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_is_configured),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
