# Macros of configure.ac's own, so that a build doesn't need autoconf-archive.

# TR_CC_FLAGS(VARIABLE, FLAGS): substitutes those of FLAGS that the compiler knows.
# -Werror is there because clang only warns of an option that it doesn't know.
AC_DEFUN([TR_CC_FLAGS], [
	$1=
	tr_save_CFLAGS=$CFLAGS
	for tr_flag in $2; do
		CFLAGS="$tr_save_CFLAGS -Werror $tr_flag"
		AC_COMPILE_IFELSE([AC_LANG_SOURCE([int tr_probe;])], [$1="$$1 $tr_flag"])
	done
	CFLAGS=$tr_save_CFLAGS
	AC_SUBST([$1])
])

# TR_LD_FLAGS(VARIABLE, FLAGS): the same for the linker.
AC_DEFUN([TR_LD_FLAGS], [
	$1=
	tr_save_LDFLAGS=$LDFLAGS
	for tr_flag in $2; do
		LDFLAGS="$tr_save_LDFLAGS $tr_flag"
		AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [$1="$$1 $tr_flag"])
	done
	LDFLAGS=$tr_save_LDFLAGS
	AC_SUBST([$1])
])

# TR_CC_FORTIFY(VARIABLE): fortification, unless the user's CFLAGS don't optimise: glibc then
# warns of it in every file.
AC_DEFUN([TR_CC_FORTIFY], [
	$1=
	tr_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM([#include <string.h>], [])],
		[$1="-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"])
	CFLAGS=$tr_save_CFLAGS
])

# TR_LIBRARY(NAME, HEADER, LIBRARY, FUNCTION, PACKAGE): a library without a .pc file everywhere;
# substitutes NAME_LIBS or says which Debian package has it.
AC_DEFUN([TR_LIBRARY], [
	AC_CHECK_HEADER([$2], [], [AC_MSG_ERROR([$2 was not found ($5)])])
	AC_CHECK_LIB([$3], [$4], [$1_LIBS=-l$3], [AC_MSG_ERROR([lib$3 was not found ($5)])])
	AC_SUBST([$1_LIBS])
])
