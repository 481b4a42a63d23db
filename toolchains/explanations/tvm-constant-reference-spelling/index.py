# relax as R "
@R.function
def main(x: R.Tensor((1,), "float32")):
    lv0 = R.add(x, metadata["ir.GenericConst"][0])
    lv1 = R.add(x, metadata["ir.GenericConst"][1])
