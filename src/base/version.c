/* The version that configure.ac gives, as a symbol of libtailrace. */

const char tr_version[] = VERSION;
