# relax as R "
@R.function
def main(x: R.Tensor((1,), "float32")):
    lv0 = R.add(x, metadata["ir.GenericConst"][sha256:1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b:int64:3])
    lv1 = R.add(x, metadata["ir.GenericConst"][sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a:float32:1x2])
