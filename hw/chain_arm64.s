#include "textflag.h"

#define ADD8 ADD R2, R0; ADD R2, R0; ADD R2, R0; ADD R2, R0; ADD R2, R0; ADD R2, R0; ADD R2, R0; ADD R2, R0

// func addChain(rounds uintptr) (adds uintptr)
TEXT ·addChain(SB), NOSPLIT, $0-16
	MOVD rounds+0(FP), R1
	MOVD $0, R0
	MOVD $1, R2
	CBZ  R1, done

loop: // its own counter runs beside the chain
	ADD8
	ADD8
	ADD8
	ADD8
	ADD8
	ADD8
	ADD8
	ADD8
	SUB  $1, R1
	CBNZ R1, loop

done:
	MOVD R0, adds+8(FP)
	RET
