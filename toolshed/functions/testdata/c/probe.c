/* A function in C: clang --target=wasm32-wasi -O2 -o probe.wasm probe.c */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((import_module("shed"), import_name("call"))) int32_t shed_call(const void *request, uint32_t length);
__attribute__((import_module("shed"), import_name("answer"))) int32_t shed_answer(void *buffer, uint32_t length);

static const char *get(const char *name) {
	const char *value = getenv(name);
	return value ? value : "";
}

int main(void) {
	static char body[4096], answer[4096];
	size_t length = fread(body, 1, sizeof body - 1, stdin);
	body[length] = 0;
	if (strcmp(get("PATH_INFO"), "/host") == 0) {
		if (shed_call(body, (uint32_t)length) < 0) return 9;
		int32_t n = shed_answer(answer, sizeof answer);
		if (n < 0) return 8;
		printf("Content-Type: application/json\n\n");
		fwrite(answer, 1, (size_t)n, stdout);
		return 0;
	}
	if (strcmp(get("PATH_INFO"), "/outside") == 0) {
		int32_t a = shed_call((void *)0xfffffff0u, 4096), b = shed_answer((void *)0xfffffff0u, 4096);
		printf("%d %d", (int)a, (int)b);
		return 0;
	}
	fprintf(stderr, "called\n");
	printf("Status: 201 Created\nContent-Type: text/plain\n\n%s %s?%s %s %s|%s", get("REQUEST_METHOD"), get("PATH_INFO"),
	       get("QUERY_STRING"), get("GREETING"), get("HTTP_X_TRACE"), body);
	return 0;
}
