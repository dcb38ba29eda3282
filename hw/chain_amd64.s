#include "textflag.h"

#define ADD8 ADDQ BX, AX; ADDQ BX, AX; ADDQ BX, AX; ADDQ BX, AX; ADDQ BX, AX; ADDQ BX, AX; ADDQ BX, AX; ADDQ BX, AX

// func addChain(rounds uintptr) (adds uintptr)
TEXT ·addChain(SB), NOSPLIT, $0-16
	MOVQ rounds+0(FP), CX
	XORL AX, AX
	MOVL $1, BX
	TESTQ CX, CX
	JZ   done

loop: // its own counter runs beside the chain
	ADD8
	ADD8
	ADD8
	ADD8
	ADD8
	ADD8
	ADD8
	ADD8
	DECQ CX
	JNZ  loop

done:
	MOVQ AX, adds+8(FP)
	RET
