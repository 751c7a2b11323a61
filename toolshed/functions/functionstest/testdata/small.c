#include <stdio.h>

int main(void) {
	printf("Content-Type: text/plain\n\nhello");
	return 0;
}
