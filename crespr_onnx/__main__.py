"""`python -m crespr_onnx` is the command line."""

from crespr_onnx.cli import main

if __name__ == "__main__":
    main()
